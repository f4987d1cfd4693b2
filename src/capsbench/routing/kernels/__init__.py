"""What makes routing fast. A router calls a function and knows no hardware."""
