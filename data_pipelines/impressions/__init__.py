"""What was shown beside each event, from files to negatives. Imports raw, sessions."""
