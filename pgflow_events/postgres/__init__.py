"""psycopg on trio: connections, pools, listening, and which errors pass. Knows no flows."""
