"""What the command line calls SOURCE: paths, patterns and URLs become recordings, stretches and local copies."""
