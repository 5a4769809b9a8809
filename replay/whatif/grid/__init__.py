"""Many variants of a run side by side: figures, differences that are more than chance, and who beats whom."""
