"""The node's logic, free of IO."""
