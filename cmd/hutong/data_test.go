package main

import (
	"io"
	"net/http"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"hutong/bfia"
)

func TestUploadFile(t *testing.T) {
	type form struct {
		fields map[string]string
		file   string
	}
	forms := make(chan form, 1)
	p := newParty(
		t,
		map[string]http.HandlerFunc{
			"POST " + bfia.PathComponentFile: func(w http.ResponseWriter, r *http.Request) {
				got := form{fields: map[string]string{}}
				if err := r.ParseMultipartForm(1 << 20); err != nil {
					refuse(w, 400, bfia.CodeBadRequest, err.Error())
					return
				}
				for name, values := range r.MultipartForm.Value {
					got.fields[name] = values[0]
				}
				f, _, err := r.FormFile("file")
				if err != nil {
					refuse(w, 400, bfia.CodeBadRequest, err.Error())
					return
				}
				content, _ := io.ReadAll(f)
				got.file = string(content)
				forms <- got
				data(map[string]any{"namespace": "n", "name": "d", "count": 2})(w, r)
			},
		},
	)
	rows := file(t, "id,y\n1,0\n2,1\n")
	status, stdout, stderr := p.run(t, "data", "upload", "--file", rows, "--namespace", "n", "--name", "d",
		"--partitions", "4", "--extend-sid", "--id", "id", "--label", "y")
	require.Equal(t, exitOK, status, stderr)
	assert.Equal(t, "n#d, 2 rows\n", stdout)
	assert.Empty(t, stderr, "no progress without a terminal")
	got := <-forms
	assert.Equal(t, "id,y\n1,0\n2,1\n", got.file)
	assert.JSONEq(t, `{"match_id_name":"id","label_name":"y"}`, got.fields["meta"])
	delete(got.fields, "meta")
	assert.Equal(
		t,
		map[string]string{
			"namespace":  "n",
			"name":       "d",
			"partitions": "4",
			"head":       "true",
			"extend_sid": "true",
		},
		got.fields,
	)

	// A request file sets the fields, flags override them, and --file replaces the server's file.
	request := file(
		t,
		`{"file":"server.csv","head":false,"partitions":16,`+
			`"meta":{"delimiter":";","x":1},"namespace":"a","name":"b"}`,
	)
	status, _, stderr = p.run(t, "data", "upload", "-f", request, "--file", rows, "--name", "c",
		"--delimiter", ",")
	require.Equal(t, exitOK, status, stderr)
	got = <-forms
	assert.JSONEq(t, `{"delimiter":",","x":1}`, got.fields["meta"])
	delete(got.fields, "meta")
	assert.Equal(t, map[string]string{"namespace": "a", "name": "c", "partitions": "16", "head": "false"},
		got.fields)

	status, _, stderr = p.run(t, "data", "upload", "--file", t.TempDir(), "--namespace", "n", "--name", "d")
	assert.Equal(t, exitFailed, status)
	assert.Contains(t, stderr, "not a regular file")
}

func TestUploadServerFile(t *testing.T) {
	p := newParty(
		t,
		map[string]http.HandlerFunc{
			"POST " + bfia.PathComponentUpload: data(map[string]any{"namespace": "n", "name": "d"}),
		},
	)
	status, stdout, stderr := p.run(t, "data", "upload", "--server-file", "a.csv", "--namespace", "n",
		"--name", "d", "--no-header")
	require.Equal(t, exitOK, status, stderr)
	assert.Equal(t, "n#d\n", stdout)
	assert.JSONEq(t, `{"file":"a.csv","head":false,"namespace":"n","name":"d"}`, p.requests()[0].body)

	vector := filepath.Join("..", "..", "testdata", "vectors", "component_upload.request.json")
	status, _, stderr = p.run(t, "data", "upload", "-f", vector)
	require.Equal(t, exitOK, status, stderr)
	want, err := os.ReadFile(vector)
	require.NoError(t, err)
	assert.JSONEq(t, string(want), p.requests()[1].body)
}

func TestDataListAndDownload(t *testing.T) {
	p := newParty(t, map[string]http.HandlerFunc{
		"GET " + bfia.PathDataQuery: data(
			[]map[string]any{
				{"namespace": "n", "name": "数据", "count": 5, "partitions": 4,
					"bytes": 1536, "update_time": noon.UnixMilli()},
			},
		),
		"GET " + bfia.PathDataDownload: func(w http.ResponseWriter, r *http.Request) {
			switch r.URL.Query().Get("name") {
			case "good":
				respond("id\n1\n")(w, r)
			case "broken":
				w.Header().Set("Content-Length", "100")
				respond("id\n1\n")(w, r)
			default:
				refuse(w, 404, bfia.CodeNotFound, "no such dataset")
			}
		},
	})
	_, stdout, _ := p.run(t, "data", "list", "--namespace", "n")
	assert.Regexp(t, `(?m)^n          数据  5     4           1\.5 KiB  \d{4}-`, stdout)
	assert.Equal(t, "namespace=n", p.requests()[0].query)

	status, stdout, _ := p.run(t, "data", "download", "n", "good")
	assert.Equal(t, exitOK, status)
	assert.Equal(t, "id\n1\n", stdout)
	dir := t.TempDir()
	out := filepath.Join(dir, "out.csv")
	status, stdout, _ = p.run(t, "data", "download", "n", "good", "-o", out)
	assert.Equal(t, exitOK, status)
	assert.Empty(t, stdout)
	content, err := os.ReadFile(out)
	require.NoError(t, err)
	assert.Equal(t, "id\n1\n", string(content))

	for _, name := range []string{"broken", "missing"} {
		status, _, stderr := p.run(t, "data", "download", "n", name, "-o", filepath.Join(dir, name))
		assert.Equal(t, exitFailed, status)
		assert.Contains(
			t,
			stderr,
			map[string]string{"broken": "the transfer was cut off: the data is incomplete; try again",
				"missing": "no such dataset"}[name],
		)
	}
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	assert.Len(t, entries, 1, "an incomplete download leaves no file")
	status, _, stderr := p.run(t, "data", "download", "n", "good", "-o", os.DevNull)
	assert.Equal(t, exitOK, status, stderr)
	info, err := os.Stat(os.DevNull)
	require.NoError(t, err)
	assert.False(t, info.Mode().IsRegular(), "a device is not replaced by a file")
}

func TestHelpOfRepeatedIDs(t *testing.T) {
	status, stdout, _ := runMain(t, t.Context(), []string{}, "", "data", "upload", "--help")
	require.Equal(t, exitOK, status)
	require.Contains(t, stdout, "add a column sid that numbers the rows, and permit repeated ids")
}
