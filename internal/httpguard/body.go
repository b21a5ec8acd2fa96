package httpguard

import (
	"io"
	"net/http"
)

// EndBody makes the body of a request end where its Content-Length says. Call it for a request that a proxy
// passes on. net/http's client reads such a body once more, to find its end. If the next server's answer has
// begun by then, the proxy's own server has closed the body. That read fails, and with it the answer is cut
// off. A body without a length is not changed.
func EndBody(r *http.Request) {
	if r.ContentLength > 0 && r.Body != nil {
		r.Body = &boundedBody{ReadCloser: r.Body, left: r.ContentLength}
	}
}

// boundedBody is a body that does not read beyond its length.
type boundedBody struct {
	io.ReadCloser
	left int64
}

func (b *boundedBody) Read(p []byte) (int, error) {
	if b.left == 0 {
		return 0, io.EOF
	}
	n, err := b.ReadCloser.Read(p[:min(int64(len(p)), b.left)])
	b.left -= int64(n)
	return n, err
}
