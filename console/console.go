// Package console holds the web pages of a party: a program for browsers, built from src into dist by
// `make console`. It has no data; it calls the party's API as the client who signs in.
package console

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"io/fs"
	"net/url"
	"path"
	"strings"
	"sync"
)

// Prefix is the path below which the console is served.
const Prefix = "/console/"

//go:embed dist
var dist embed.FS

// File is a file of the console.
type File struct {
	Body []byte
	// Gzip is Body compressed, or nil if that saves nothing.
	Gzip []byte
	// ContentType is its media type.
	ContentType string
	// ETag identifies the content.
	ETag string
	// Page reports that the file is the page itself, which names the versions of all others.
	Page bool
}

// page is the file that is answered to every path of the console that is not a file: the program shows the
// page of that path.
const page = "index.html"

// contentTypes are the media types of the files, by extension. They don't depend on the machine's tables.
var contentTypes = map[string]string{
	".html": "text/html; charset=utf-8",
	".js":   "text/javascript; charset=utf-8",
	".css":  "text/css; charset=utf-8",
	".svg":  "image/svg+xml",
}

var files = sync.OnceValue(func() map[string]File {
	found := map[string]File{}
	err := fs.WalkDir(dist, "dist", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		kind := contentTypes[path.Ext(name)]
		if kind == "" {
			return nil
		}
		body, err := dist.ReadFile(name)
		if err != nil {
			return err
		}
		sum := sha256.Sum256(body)
		f := File{Body: body, ContentType: kind, ETag: `"` + hex.EncodeToString(sum[:8]) + `"`}
		if small := compress(body); len(small) < len(body) {
			f.Gzip = small
		}
		name = strings.TrimPrefix(name, "dist/")
		f.Page = name == page
		found[name] = f
		return nil
	})
	if err != nil {
		panic(err) // the files are part of the program
	}
	return found
})

func compress(body []byte) []byte {
	var out bytes.Buffer
	w, _ := gzip.NewWriterLevel(&out, gzip.BestCompression) // the level is valid
	_, _ = w.Write(body)                                    // a buffer takes everything
	_ = w.Close()
	return out.Bytes()
}

// Find returns the file of a path below [Prefix]. A path that is no file is a page of the console, so it gets
// the page itself.
func Find(name string) File {
	all := files()
	if f, ok := all[name]; ok {
		return f
	}
	return all[page]
}

// SecurityPolicy returns the Content-Security-Policy of the console. Scripts, styles and requests are its
// party's own, except that it asks the OpenID provider, if there is one, for a token.
func SecurityPolicy(issuer string) string {
	connect := "'self'"
	u, err := url.Parse(issuer)
	if err == nil && u.Host != "" && (u.Scheme == "https" || u.Scheme == "http") {
		connect += " " + u.Scheme + "://" + u.Host
	}
	return "default-src 'self'; connect-src " + connect +
		"; object-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
}
