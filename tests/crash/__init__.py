"""What a crash may do to a node, and what it must not: traffic, drills, and the checks after them."""
