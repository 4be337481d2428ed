"""What every room uses: checks of arguments, devices, progress, linear algebra, files. It imports no other room."""
