"""The starter of a live-code image: fetches the code that a task names and runs it."""
