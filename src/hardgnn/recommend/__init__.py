"""Recommendations in raw ids, to ask for or to export."""
