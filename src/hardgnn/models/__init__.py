"""What scores items for users, behind one protocol."""
