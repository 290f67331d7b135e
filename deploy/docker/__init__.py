"""What a deployment with Docker Compose needs besides its docker-compose.yml."""
