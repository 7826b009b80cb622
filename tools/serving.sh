# What the scripts share that start a broker and a server on this machine. To be sourced, not run: makes a folder `work`,
# ends the processes named in `pids` and removes the folder when the script ends.
work=$(mktemp -d)
pids=()
finish() {
  for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done
  for pid in "${pids[@]}"; do wait "$pid" 2>/dev/null || true; done
  rm -rf "$work"
}
trap finish EXIT

# The SHA-256 under which `serve.tokens` knows a token.
hashed() { printf '%s' "$1" | sha256sum | cut -d' ' -f1; }

# Waits up to 30 seconds for a file to have contents, and prints them.
contents() {
  for _ in $(seq 300); do [ -s "$1" ] && break; sleep 0.1; done
  cat "$1"
}

# Waits up to 60 seconds for a server to have caught up.
ready() {
  for _ in $(seq 600); do curl -sf "$1/readyz" >/dev/null && break; sleep 0.1; done
}
