# What pip is told, uv must be told again: sourced by the scripts that install. Needs VENV; sets INDEXES and SSL_CERT_FILE.

# Several indexes count as one, as they do for pip.
read_pip_settings() {
    local place
    INDEXES=(--index-strategy unsafe-best-match)
    while read -r place; do INDEXES+=(--default-index "$place"); done < <(pip_setting index-url)
    while read -r place; do INDEXES+=(--index "$place"); done < <(pip_setting extra-index-url)
    while read -r place; do INDEXES+=(--find-links "$place"); done < <(pip_setting find-links)
    SSL_CERT_FILE=${SSL_CERT_FILE:-$(pip_setting cert)}
    if [ -n "$SSL_CERT_FILE" ]; then export SSL_CERT_FILE; else unset SSL_CERT_FILE; fi
}
pip_setting() { "$VENV/bin/python" scripts/pip_setting.py "$1"; }
