package api

import (
	"bytes"
	"encoding/json"
	"io"
	"mime/multipart"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"hutong/bfia"
)

// file writes a file into the upload folder.
func (p *party) file(name, content string) {
	p.t.Helper()
	require.NoError(p.t, os.WriteFile(filepath.Join(p.uploads, name), []byte(content), 0o600))
}

// withProvider registers the provider of the captured job.
func (p *party) withProvider() *party {
	p.t.Helper()
	p.good(post(bfia.PathProviderRegister, vector(p.t, "provider_register.request.json")))
	return p
}

// withData uploads the datasets of the captured job, of both roles.
func (p *party) withData() *party {
	p.t.Helper()
	for _, name := range []string{"test_guest", "test_host"} {
		p.file(name+".csv", "id,y,x0\n1,0,0.5\n2,1,0.25\n")
		p.good(post(bfia.PathComponentUpload,
			map[string]any{"file": name + ".csv", "namespace": "testspace", "name": name}))
	}
	return p
}

// job returns the captured job under the test's id, with replacements in its text.
func job(t testing.TB, id string, replace ...string) string {
	t.Helper()
	text := string(vector(t, "job_create_all.request.json"))
	for i := 0; i < len(replace); i += 2 {
		require.Contains(t, text, replace[i])
		text = strings.Replace(text, replace[i], replace[i+1], 1)
	}
	if id != "" {
		text = strings.Replace(text, "{", `{"job_id": "`+id+`",`, 1)
	}
	return text
}

// edited returns the captured job with one value changed, which keys and indexes name.
func edited(t testing.TB, id string, value any, place ...any) string {
	t.Helper()
	var doc any
	require.NoError(t, json.Unmarshal([]byte(job(t, id)), &doc))
	at := doc
	for _, step := range place[:len(place)-1] {
		switch s := step.(type) {
		case string:
			at = at.(map[string]any)[s]
		case int:
			at = at.([]any)[s]
		}
	}
	switch s := place[len(place)-1].(type) {
	case string:
		if value == nil {
			delete(at.(map[string]any), s)
		} else {
			at.(map[string]any)[s] = value
		}
	case int:
		at.([]any)[s] = value
	}
	raw, err := json.Marshal(doc)
	require.NoError(t, err)
	return string(raw)
}

// running returns a party that schedules the captured job and plays both roles in it. All tasks are started.
func running(t testing.TB, id string) *party {
	t.Helper()
	p := newParty(t).withProvider().withData()
	p.good(post(bfia.PathCreateAll, job(t, id)).from(guest))
	p.good(post(bfia.PathCreate, job(t, id)).from(guest))
	return p
}

const (
	first  = "intersect_rsa_1"
	second = "hetero_secureboost_1"
)

// field is a part of a form.
type field struct{ name, value string }

// form returns a multipart form. The field named file is the file.
func form(t testing.TB, path string, fields ...field) call {
	t.Helper()
	var b bytes.Buffer
	w := multipart.NewWriter(&b)
	for _, f := range fields {
		var part io.Writer
		var err error
		if f.name == "file" {
			part, err = w.CreateFormFile("file", "data.csv")
		} else {
			part, err = w.CreateFormField(f.name)
		}
		require.NoError(t, err)
		_, err = io.WriteString(part, f.value)
		require.NoError(t, err)
	}
	require.NoError(t, w.Close())
	return post(path, b.Bytes()).with("Content-Type", w.FormDataContentType())
}
