"""What a run is made of, a room for each subject."""
