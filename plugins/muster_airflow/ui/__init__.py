"""What the API server shows of recovery points, to people who are signed in."""
