"""What a run left behind, joined with the truth: rows, figures, and the file that equal runs write equally."""
