"""The wire: messages, the publisher, control and markers."""
