"""The relay's logic, free of IO."""
