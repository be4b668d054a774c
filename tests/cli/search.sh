#!/usr/bin/env bash
# Search over HTTP, against a server on this machine: what is asked, what comes back, errors as texts; a slow answer holds up its own
# question only.
. "$(dirname "$0")/lib.bash"
trap 'kill "$server" 2>/dev/null; rm -rf "$work"' EXIT
server=
unset http_proxy HTTP_PROXY all_proxy ALL_PROXY
python3 "$here/cli/tiny.py" "$work/tiny" && cd "$work/tiny" || exit 1
cat >server.py <<'P'
import http.server, json, time
class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        ask = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        right = self.headers["Authorization"] == "Bearer secret" and ask["search_depth"] == "advanced" and ask["max_results"] == 4
        time.sleep(1.5 if ask["query"] == "slow" else 0)
        body = json.dumps({"results": [{"title": "About " + ask["query"], "url": "http://x/1", "content": "one  two\n three"}]}).encode()
        self.send_response(200 if right and ask["query"] != "broken" else 500)
        self.end_headers()
        if ask["query"] == "zeros": body = body.replace(b"  two", b"\\u0000two")
        if ask["query"] == "page": body = b"<html></html>"
        if ask["query"] == "endless": body = b" " * (5 << 20)
        self.wfile.write(body)
    def log_message(self, *a):
        pass
s = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
print(s.server_port, flush=True)
s.serve_forever()
P
python3 server.py >port &
server=$!
for _ in $(seq 50); do [ -s port ] && break || sleep 0.1; done

for i in 0 1 2; do
    printf '{"index": %d, "role": "toolcaller", "text": "<search> %s </search>"}\n' "$i" "$(echo slow fast broken | cut -d' ' -f$((i + 1)))"
done >said
search() { "$rmas" run tools -q zero -q one -q two --ans 0 --replay said --show_text --quiet --allow_tools search --search_provider "$1" 2>"$work/err"; }
export TAVILY_API_KEY=secret
search "tavily:http://127.0.0.1:$(cat port)/search" >"$work/out" || note "search: $(cat "$work/err")"
found='Query: WORD
Results:
\[1\] About WORD
URL: http://x/1
one two three </result>'
for w in slow fast; do grep -qzE "<result> ${found//WORD/$w}" "$work/out" || note "$w: $(cat "$work/out")"; done
grep -q "<result> \[search error\] HTTPError: status 500 </result>" "$work/out" || note "error: $(cat "$work/out")"
[ "$(grep -c '^--- question' "$work/out")" = 3 ] && [ "$(grep '^--- question' "$work/out" | tail -n 1)" = "--- question 0: zero" ] ||
    note "the slow search is not the last: $(grep '^---' "$work/out")"
for i in 0 1 2; do
    printf '{"index": %d, "role": "toolcaller", "text": "<search> %s </search>"}\n' "$i" "$(echo zeros page endless | cut -d' ' -f$((i + 1)))"
done >said
search "tavily:http://127.0.0.1:$(cat port)/search" >"$work/out" || note "odd replies: $(cat "$work/err")"
grep -qzE "<result> ${found//WORD/zeros}" "$work/out" || note "zeros: $(cat "$work/out")"
grep -q "<result> \[search error\] JSONDecodeError: the reply is no JSON </result>" "$work/out" || note "no JSON: $(cat "$work/out")"
grep -q "<result> \[search error\] ConnectionError: the reply is longer than 4 MiB </result>" "$work/out" || note "endless: $(cat "$work/out")"
kill "$server"
wait "$server" 2>/dev/null
search "tavily:http://127.0.0.1:$(cat port)/search" | grep -q "<result> \[search error\] ConnectionError" || note "no server"
TAVILY_API_KEY= search tavily | grep -q "search" || note "no key"
grep -q "search is off: no provider or no key" "$work/err" || note "no key: $(cat "$work/err")"
mkdir texts && printf '# Towers\n\nThe tower is 12 m high.\n' >texts/a.md
search file:texts >"$work/out" || note "folder: $(cat "$work/err")"
grep -q "\[no search results\]" "$work/out" || note "folder: $(cat "$work/out")"
exit $bad
