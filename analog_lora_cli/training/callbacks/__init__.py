"""What happens between the Trainer's steps, one callback a file."""
