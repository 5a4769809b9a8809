"""Ten spoken commands of real people: recogniser, folds, tables."""
