"""The program's commands: what each takes, and what it prints."""
