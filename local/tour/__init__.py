"""The guided tour: each main job of the system driven end to end through the gateway, with what must hold checked."""
