"""Where archives come from when they are not in the model store yet: https, http and file urls."""
