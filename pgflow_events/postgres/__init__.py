"""psycopg on trio: connections, pools, LISTEN, and which errors pass. Knows nothing of flows."""
