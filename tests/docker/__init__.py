"""The images and docker-compose.yml: what they say (no engine needed), and what they do (marked docker)."""
