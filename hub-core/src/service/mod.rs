//! What happens to a message that came in: a [tower] stack of layers around the hub's handlers.
