"""Records of experiments become tables and figures."""
