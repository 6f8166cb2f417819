"""Images and opinion scores: reading, making, distorting, rating and checking them."""
