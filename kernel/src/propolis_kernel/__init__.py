"""The kernel images of this package, one folder for each architecture; propolis finds them by the package's place."""
