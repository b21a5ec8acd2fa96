package console

import (
	"bytes"
	"compress/gzip"
	"io"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestFiles checks that the page names the files that exist, with the hashes of their content, and nothing of
// other servers.
func TestFiles(t *testing.T) {
	page := Find("")
	require.True(t, page.Page)
	require.Equal(t, "text/html; charset=utf-8", page.ContentType)
	html := string(page.Body)
	named := regexp.MustCompile(`(?:src|href)="([^"]*)"`).FindAllStringSubmatch(html, -1)
	require.NotEmpty(t, named)
	for _, m := range named {
		name, version, ok := strings.Cut(strings.TrimPrefix(m[1], Prefix), "?v=")
		require.True(t, ok && strings.HasPrefix(m[1], Prefix), "%s", m[1])
		file := Find(name)
		assert.False(t, file.Page, "%s does not exist", name)
		assert.Equal(t, `"`+version+`"`, file.ETag, "%s was changed without make console", name)
	}
	assert.NotRegexp(t, `<style|style=|<script>| on\w+=`, html, "the security policy forbids it")
}

func TestUnknownPathsAreThePage(t *testing.T) {
	for _, name := range []string{"jobs", "jobs/1/tasks/a.js", "../console.go", "dist/", "dist/app.js",
		"app.js/"} {
		assert.True(t, Find(name).Page, name)
	}
	assert.Equal(t, "text/javascript; charset=utf-8", Find("app.js").ContentType)
	assert.Equal(t, "text/css; charset=utf-8", Find("app.css").ContentType)
	assert.Equal(t, "image/svg+xml", Find("icon.svg").ContentType)
}

func TestGzip(t *testing.T) {
	file := Find("app.js")
	require.Less(t, len(file.Gzip), len(file.Body)/2)
	r, err := gzip.NewReader(bytes.NewReader(file.Gzip))
	require.NoError(t, err)
	body, err := io.ReadAll(r)
	require.NoError(t, err)
	require.True(t, bytes.Equal(file.Body, body))
}

func TestSecurityPolicy(t *testing.T) {
	for issuer, connect := range map[string]string{
		"":                               "connect-src 'self';",
		"https://id.example.com/realm/a": "connect-src 'self' https://id.example.com;",
		"https://id.example.com:8443":    "connect-src 'self' https://id.example.com:8443;",
		"javascript:alert(1)":            "connect-src 'self';",
		"://":                            "connect-src 'self';",
	} {
		policy := SecurityPolicy(issuer)
		assert.Contains(t, policy, connect, issuer)
		assert.True(t, strings.HasPrefix(policy, "default-src 'self';"))
		assert.NotContains(t, policy, "unsafe")
	}
}
