"""What the node is shown with each request."""
