# One plain command each; `just --list` shows them.

# format the code
fmt:
    cargo fmt --all

# everything that clippy finds is an error
lint:
    cargo clippy --locked --all-targets -- -D warnings

# checks, then all tests against a real Kafka and a real Postgres; arguments go to cargo test
test *args:
    scripts/test {{ args }}

# benchmarks in release mode; arguments go to cargo bench
bench *args:
    cargo bench --locked {{ args }}

# half an hour of faults with a checker; arguments such as `--minutes 600` or `--seed 7`
soak *args:
    scripts/test --services-only cargo bench --locked --features fault-injection --bench soak -- {{ args }}

# the documentation, private items included
doc:
    RUSTDOCFLAGS="-D warnings" cargo doc --locked --no-deps --document-private-items

# the main job on generated payloads; needs no server
demo:
    cargo run --release -- demo
