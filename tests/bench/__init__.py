"""What a collection costs: `make bench`, see __main__.py."""
