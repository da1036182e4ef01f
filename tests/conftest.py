pytest_plugins = "pytester"  # pytest run on small test files, to test our own plugin
