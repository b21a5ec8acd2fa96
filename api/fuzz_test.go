package api

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hutong/bfia"
)

// FuzzRequests sends any method, path, header and body. The answer is always the envelope, or a closed
// connection after malformed HTTP, and never a 5xx or a stack trace. The party keeps serving.
func FuzzRequests(f *testing.F) {
	p := newParty(f, func(c *Config) { c.ClientTimeout = 5 * time.Second }).withProvider().withData()
	p.good(post(bfia.PathCreateAll, job(f, "j1")).from(guest))
	p.good(post(bfia.PathCreate, job(f, "j1")).from(guest))
	_, err := p.store.StartTask(f.Context(), "j1", first, "t1", 1, time.Now())
	require.NoError(f, err)
	p.answering(host, 200, `{"code":0,"msg":"success"}`)

	for _, r := range p.server.routes() {
		if r.path == bfia.PathEvents {
			continue // its answer does not end
		}
		for _, body := range []string{``, `{}`,
			`{"job_id":"j1","task_id":"t1","task_name":"intersect_rsa_1","status":"SUCCESS","role":"guest"}`, `[`, "\x00\xff"} {
			f.Add(r.method, r.path+"?job_id=j1&task_id=t1", "x-source-node-id: "+guest, body)
		}
	}
	f.Add("POST", bfia.PathCreate, "x_node_id: "+host, job(f, "j2"))
	f.Add("POST", bfia.PathPlatformCreateAll, "", job(f, "j3"))
	f.Add("POST", bfia.PathProviderRegister, "", string(vector(f, "provider_register.request.json")))
	f.Add(
		"POST",
		bfia.PathComponentFile,
		"Content-Type: multipart/form-data; boundary=b",
		"--b\r\nContent-Disposition: form-data; name=\"name\"\r\n\r\nd\r\n--b\r\nContent-Disposition: form-data; name=\"namespace\"\r\n\r\nn\r\n"+
			"--b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"f\"\r\n\r\nid\n1\n\r\n--b--\r\n",
	)
	f.Add("POST", bfia.PathComponentUpload, "",
		`{"file":"test_guest.csv","namespace":"n","name":"d","meta":{"delimiter":","}}`)
	f.Add("PURGE", "/\x00", "Transfer-Encoding: chunked", "0\r\n\r\n")
	f.Add("POST", bfia.PathStart, "Expect: 100-continue", "{}")

	f.Fuzz(func(t *testing.T, method, path, header, body string) {
		request := fmt.Sprintf("%s %s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n", method, path)
		if header != "" {
			request += header + "\r\n"
		}
		if !strings.Contains(strings.ToLower(header), "transfer-encoding") {
			request += fmt.Sprintf("Content-Length: %d\r\n", len(body))
		}
		c := dial(t, p.address)
		exchange(t, c, request+"\r\n"+body)
		p.server.mu.Lock()
		ended := p.server.ended
		p.server.mu.Unlock()
		require.False(t, ended)
		require.NotContains(t, p.log.String(), "a handler panicked")
		require.NotContains(t, p.log.String(), "level=ERROR", "a request made something fail")
		p.log.reset()
		p.engine.takeSignals()
	})
}
