"""How the system is deployed; a file of Python here runs in the image `setup`, before the services."""
