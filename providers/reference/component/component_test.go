package component

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestFromEnviron(t *testing.T) {
	task, err := FromEnviron([]string{
		"PATH=/bin", "broken", "config.self_role=guest.0", "config.task_id=c690",
		"config.session_id=session_1",
		"config.token=tok=en", "config.trace_id=", "config.node_id.guest.0=A", "config.node_id.host.0=B",
		"config.node_id.host.1=C",
		"config.inst_id.guest.0=A", "runtime.component.name=Intersection",
		`runtime.component.input.train_data={"name": "test_guest", "namespace": "testspace"}`,
		`runtime.component.output.train-intersection={"name": "c690", "namespace": "guest-A-report-report0"}`,
		"runtime.component.parameter.id=id", `runtime.component.parameter.tree_param={"max_depth": 5}`,
		"system.storage=s3://127.0.0.1:9000?username=admin&password=12345678",
	})
	require.NoError(t, err)
	require.Equal(t, Party{"guest", 0, "A"}, task.Self)
	require.Equal(t, "tok=en", task.Token)
	require.Equal(t, "s3://127.0.0.1:9000?username=admin&password=12345678", task.Storage)
	require.Equal(t, `{"max_depth": 5}`, task.Parameters["tree_param"])
	address, err := task.Input("train_data")
	require.NoError(t, err)
	require.Equal(t, Address{"test_guest", "testspace"}, address)
	require.Equal(t, Address{"c690", "guest-A-report-report0"}, task.Outputs["train-intersection"])
	_, err = task.Input("model")
	require.ErrorContains(t, err, "runtime.component.input.model is missing")
	_, err = task.OnlyParty("host")
	require.ErrorContains(t, err, "2 parties of role host")
	hosts, err := task.RequireParties("host")
	require.NoError(t, err)
	require.Equal(t, []Party{{"host", 0, "B"}, {"host", 1, "C"}}, hosts)
	_, err = task.RequireParties("arbiter")
	require.ErrorContains(t, err, "config.node_id.arbiter.0 is missing")
	require.Equal(t, []string{
		"system.callback", "system.transport", "config.trace_id", "config.log.path", "config.inst_id.host.0",
		"config.inst_id.host.1",
	}, task.Missing)
	guest, err := task.OnlyParty("guest")
	require.NoError(t, err)
	require.Equal(t, "guest.0", guest.String())

	for name, c := range map[string]struct{ variable, want string }{
		"role":    {"config.self_role=guest.x", "config.self_role"},
		"roles":   {"config.self_role=guest.0,host.0", "config.self_role"},
		"node":    {"config.node_id.host.-1=B", "config.node_id.host.-1"},
		"input":   {"runtime.component.input.a=nothing", "runtime.component.input.a"},
		"no name": {"a=b", "runtime.component.name is missing"},
	} {
		t.Run(name, func(t *testing.T) {
			task, err := FromEnviron([]string{"config.task_id=1", c.variable})
			require.ErrorContains(t, err, c.want)
			require.Equal(t, "1", task.TaskID, "the readable variables are present, for the callback")
		})
	}

	task, err = FromEnviron([]string{"config.self_role=guest", "runtime.component.name=x"})
	require.NoError(t, err)
	require.Equal(t, "guest.0", task.Self.String())
}

func TestReader(t *testing.T) {
	r := NewReader(map[string]string{
		"yes": "True", "no": `"False"`, "one": "1", "text": ` "quoted" `, "plain": "id", "none": "None",
		"null": "null", "empty": "",
		"int": "2.0", "float": "1e-4", "quoted": `"5"`, "list": `["auc", "ks"]`,
		"object": `{"depth": 5, "word": "x", "flag": true, "inner": {"a": "1"}, "nothing": null}`,
	})
	require.True(t, r.Bool("yes", false))
	require.False(t, r.Bool("no", true))
	require.True(t, r.Bool("one", false))
	require.Equal(t, "quoted", r.String("text", ""))
	require.Equal(t, "id", r.String("plain", ""))
	for _, name := range []string{"none", "null", "empty", "absent"} {
		require.Equal(t, 7, r.Int(name, 7, 0, 10), name)
		require.False(t, r.Has(name))
	}
	require.Equal(t, 2, r.Int("int", 0, 0, 10))
	require.Equal(t, 1e-4, r.Float("float", 0, 0, 1))
	require.Equal(t, 5, r.Int("quoted", 0, 0, 10))
	require.Equal(t, []string{"auc", "ks"}, r.Strings("list", nil))
	o := r.Object("object")
	require.True(t, r.IsObject("object"))
	require.Equal(t, 5, o.Int("depth", 0, 0, 10))
	require.Equal(t, "x", o.String("word", ""))
	require.True(t, o.Bool("flag", false))
	require.Equal(t, 1, o.Object("inner").Int("a", 0, 0, 10))
	require.Equal(t, 3, o.Int("nothing", 3, 0, 10))
	require.NoError(t, r.Err())

	for name, c := range map[string]struct {
		read func(r *Reader)
		want string
	}{
		"bool": {
			func(r *Reader) { r.Bool("word", true) }, `parameter word: "abc" is neither true nor false`,
		},
		"number": {func(r *Reader) { r.Float("word", 0, 0, 1) }, `parameter word: "abc" is not a number`},
		"range": {
			func(r *Reader) { r.Int("five", 0, 0, 4) }, "parameter five: 5 is out of range: from 0 to 4",
		},
		"whole":  {func(r *Reader) { r.Int("half", 0, 0, 4) }, "parameter half: 0.5 is not a whole number"},
		"nan":    {func(r *Reader) { r.Float("nan", 0, 0, 4) }, "not a number"},
		"one of": {func(r *Reader) { r.OneOf("word", "a", "a", "b") }, "supported: a, b"},
		"list":   {func(r *Reader) { r.Strings("word", nil) }, "parameter word: not a JSON list"},
		"object": {func(r *Reader) { r.Object("word") }, "parameter word: not a JSON object"},
		"inner":  {func(r *Reader) { r.Object("object").Int("depth", 0, 0, 4) }, "parameter object.depth: "},
		"long":   {func(r *Reader) { r.Bool("long", true) }, "…"},
		"first":  {func(r *Reader) { r.Bool("word", true); r.Int("five", 0, 0, 4) }, "parameter word"},
	} {
		t.Run(name, func(t *testing.T) {
			r := NewReader(map[string]string{
				"word": "abc", "five": "5", "half": "0.5", "nan": "NaN", "object": `{"depth": "deep"}`,
				"long": strings.Repeat("字", 1000),
			})
			c.read(r)
			require.ErrorContains(t, r.Err(), c.want)
			require.Less(t, len(r.Err().Error()), 400)
		})
	}
}

// s3server starts a server that implements the part of S3 that a store needs. It keeps objects in memory.
func s3server(t *testing.T) string {
	var mu sync.Mutex
	objects := map[string][]byte{}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		if !strings.Contains(r.Header.Get("Authorization"), "admin/") {
			w.WriteHeader(http.StatusForbidden)
			return
		}
		if r.URL.Query().Has("location") {
			_, _ = w.Write(
				[]byte(
					`<LocationConstraint xmlns="http://s3.amazonaws.com/doc/2006-03-01/"></LocationConstraint>`,
				),
			)
			return
		}

		switch r.Method {
		case http.MethodPut:
			body, _ := io.ReadAll(r.Body)
			if strings.HasPrefix(r.Header.Get("X-Amz-Content-Sha256"), "STREAMING-") {
				body = unchunk(body)
			}
			objects[r.URL.Path] = body
			w.Header().Set("ETag", `"1"`)
		case http.MethodGet:
			data, ok := objects[r.URL.Path]
			if !ok {
				w.WriteHeader(http.StatusNotFound)
				_, _ = w.Write([]byte(`<Error><Code>NoSuchKey</Code><Message>no such key</Message></Error>`))
				return
			}
			w.Header().Set("Last-Modified", "Mon, 02 Jan 2006 15:04:05 GMT")
			w.Header().Set("ETag", `"1"`)
			_, _ = w.Write(data)
		}
	}))
	t.Cleanup(s.Close)
	return strings.TrimPrefix(s.URL, "http://")
}

// unchunk decodes the signed chunks of the S3 client: length in hexadecimal, ";chunk-signature=..", line end,
// data, line end.
func unchunk(b []byte) []byte {
	var out []byte
	for {
		line, rest, ok := bytes.Cut(b, []byte("\r\n"))
		size, _, _ := strings.Cut(string(line), ";")
		n, err := strconv.ParseInt(size, 16, 32)
		if !ok || err != nil || n == 0 {
			return out
		}
		out, b = append(out, rest[:n]...), rest[n+2:]
	}
}

// TestStoreIsAway checks that the first request waits for a store that does not answer yet.
func TestStoreIsAway(t *testing.T) {
	server := s3server(t)
	front, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer func() { _ = front.Close() }()
	go func() {
		for n := 1; ; n++ {
			c, err := front.Accept()
			if err != nil {
				return
			}
			if n <= 3 {
				_ = c.Close()
				continue
			}
			back, err := net.Dial("tcp", server)
			if err != nil {
				_ = c.Close()
				continue
			}
			go func() { _, _ = io.Copy(back, c); _ = back.Close() }()
			go func() { _, _ = io.Copy(c, back); _ = c.Close() }()
		}
	}()
	s, err := OpenStore("s3://" + front.Addr().String() + "?username=admin&password=password")
	require.NoError(t, err)
	require.NoError(t, s.Write(t.Context(), "ns/name/data_0", []byte("x")))
	b, err := s.Read(t.Context(), "ns/name/data_0")
	require.NoError(t, err)
	require.Equal(t, "x", string(b))

	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	require.NoError(t, front.Close())
	s, err = OpenStore("s3://" + front.Addr().String() + "?username=admin&password=password")
	require.NoError(t, err)
	_, err = s.Read(ctx, "ns/name/data_0")
	require.Error(t, err)
}

// TestStores runs the same checks on both kinds of store.
func TestStores(t *testing.T) {
	for name, address := range map[string]string{
		"file": "file://" + t.TempDir(),
		"s3":   "s3://" + s3server(t) + "?username=admin&password=12345678&bucket=bucket",
	} {
		t.Run(name, func(t *testing.T) {
			store, err := OpenStore(address)
			require.NoError(t, err)
			_, err = store.Read(t.Context(), "n/t/metadata")
			require.Error(t, err)
			for _, data := range []string{"first", "second, longer", ""} {
				require.NoError(t, store.Write(t.Context(), "n/t/data_0", []byte(data)))
				got, err := store.Read(t.Context(), "n/t/data_0")
				require.NoError(t, err)
				require.Equal(t, data, string(got))
			}
			table := &Table{
				Columns: []string{"id", "x"},
				Types:   map[string]string{"x": "float"},
				Rows:    [][]string{{"a", "1,5"}, {"b", `"`}},
			}
			a := Address{"t2", "n"}
			require.NoError(t, WriteTable(t.Context(), store, a, table, "words"))
			got, err := ReadTable(t.Context(), store, a)
			require.NoError(t, err)
			require.Equal(t, table.Rows, got.Rows)
			require.Equal(t, map[string]string{"id": "string", "x": "float"}, got.Types)

			doc, err := store.Read(t.Context(), "n/t2/metadata")
			require.NoError(t, err)
			var meta map[string]any
			require.NoError(t, json.Unmarshal(doc, &meta))
			for _, field := range []string{
				"column_info", "options", "partitions", "description", "data_type", "file_type",
				"create_time", "expire_time", "count", "metadata",
			} {
				require.Contains(t, meta, field)
			}
			require.Equal(t, 2.0, meta["count"])
			require.Equal(t, 1.0, meta["partitions"])
			require.NoError(
				t, WriteJSON(t.Context(), store, Address{"m", "n"}, "model", "", map[string]int{"a": 1}),
			)
			got0, err := store.Read(t.Context(), "n/m/data_0")
			require.NoError(t, err)
			require.JSONEq(t, `{"a":1}`, string(got0))
		})
	}
}

func TestOpenStoreRefuses(t *testing.T) {
	for _, address := range []string{
		"", "hdfs://h:1", "file://", "s3://", "s3://h:1?username=a&password=geheim%zz\x7f",
	} {
		_, err := OpenStore(address)
		require.ErrorContains(t, err, "system.storage", address)
		require.NotContains(t, err.Error(), "geheim")
	}
}

// failingStore fails to write keys that end in part.
type failingStore struct {
	Store
	part string
	keys []string
}

func (f *failingStore) Write(_ context.Context, key string, _ []byte) error {
	f.keys = append(f.keys, key)
	if strings.HasSuffix(key, f.part) {
		return errors.New("disk full")
	}
	return nil
}

func TestMetadataComesLast(t *testing.T) {
	f := &failingStore{part: "data_0"}
	require.ErrorContains(
		t, WriteTable(t.Context(), f, Address{"t", "n"}, &Table{Columns: []string{"id"}}, ""), "disk full",
	)
	require.Equal(t, []string{"n/t/data_0"}, f.keys, "no metadata without data")
}

func TestReadTable(t *testing.T) {
	dir := t.TempDir()
	store, err := OpenStore("file://" + dir)
	require.NoError(t, err)
	for name, c := range map[string]struct {
		files map[string]string
		want  [][]string
		err   string
	}{
		"one": {
			map[string]string{"metadata": `{"partitions":1}`, "data_0": "id,x\na,1\nb,2\n"},
			[][]string{{"a", "1"}, {"b", "2"}}, "",
		},
		"three": {
			map[string]string{
				"metadata": `{"partitions":3.0}`, "data_0": "id\na\n", "data_1": "id\n",
				"data_2": "\ufeffid\r\nb\r\n",
			},
			[][]string{{"a"}, {"b"}}, "",
		},
		"no count": {map[string]string{"metadata": `{}`, "data_0": "id\na\n"}, [][]string{{"a"}}, ""},
		"null": {
			map[string]string{"metadata": `{"partitions":null,"column_info":null}`, "data_0": "id\na\n"},
			[][]string{{"a"}}, "",
		},
		"no metadata":  {map[string]string{"data_0": "id\na\n"}, nil, "its metadata"},
		"bad metadata": {map[string]string{"metadata": `[`, "data_0": "id\na\n"}, nil, "its metadata"},
		"lost partition": {
			map[string]string{"metadata": `{"partitions":2}`, "data_0": "id\na\n"}, nil, "partition 1 of 2",
		},
		"other header": {
			map[string]string{"metadata": `{"partitions":2}`, "data_0": "id\na\n", "data_1": "x\na\n"}, nil,
			"another header",
		},
		"ragged": {
			map[string]string{"metadata": `{}`, "data_0": "id,x\na\n"}, nil, "wrong number of fields",
		},
		"empty": {map[string]string{"metadata": `{}`, "data_0": ""}, nil, "no header line"},
		"twice": {map[string]string{"metadata": `{}`, "data_0": "id,id\n"}, nil, "column 2"},
		"huge":  {map[string]string{"metadata": `{"partitions":1e300}`}, nil, "more than"},
	} {
		t.Run(name, func(t *testing.T) {
			at := filepath.Join(dir, "n", name)
			require.NoError(t, os.MkdirAll(at, 0o755))
			for file, data := range c.files {
				require.NoError(t, os.WriteFile(filepath.Join(at, file), []byte(data), 0o644))
			}
			table, err := ReadTable(t.Context(), store, Address{name, "n"})
			if c.err != "" {
				require.ErrorContains(t, err, c.err)
				require.ErrorContains(t, err, "n#"+name)
				return
			}
			require.NoError(t, err)
			require.Equal(t, c.want, table.Rows)
		})
	}

	for _, a := range []Address{
		{"..", "n"}, {"t", "../x"}, {"", "n"}, {"t", ""}, {"t", "/etc"}, {"a/../../../b", "n"},
	} {
		_, err := ReadTable(t.Context(), store, a)
		require.ErrorContains(t, err, "are not a valid path", a)
	}
}

func TestIDs(t *testing.T) {
	table := &Table{Columns: []string{"id", "x"}, Rows: [][]string{{"secret", "1"}, {"b", "2"}}}
	ids, err := table.IDs("id")
	require.NoError(t, err)
	require.Equal(t, []string{"secret", "b"}, ids)
	table.Rows = append(table.Rows, []string{"secret", "3"})
	_, err = table.IDs("id")
	require.EqualError(t, err, `rows 1 and 3 have the same id in column "id"; ids must be unique`)
	table.Rows[2][0] = ""
	_, err = table.IDs("id")
	require.ErrorContains(t, err, "row 3 has no id")
	_, err = table.IDs("z")
	require.ErrorContains(t, err, `no column "z"`)
}

func TestReportStatus(t *testing.T) {
	for name, c := range map[string]struct {
		answers []string // status and body
		calls   int
		err     string
	}{
		"at once":     {[]string{`200 {"code":0}`}, 1, ""},
		"kuscia":      {[]string{`200 {"code":200}`}, 1, ""},
		"no envelope": {[]string{`200 ok`}, 1, ""},
		"later":       {[]string{`503 `, `200 {"code":5}`, `200 {"code":0}`}, 3, ""},
		"refused":     {[]string{`404 `}, 1, "HTTP 404"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			calls := 0
			s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				var got map[string]string
				if json.NewDecoder(r.Body).Decode(&got) != nil || got["role"] != "host.1" ||
					got["status"] != StatusFailed ||
					got["task_id"] != "t" {
					w.WriteHeader(http.StatusBadRequest)
					return
				}
				answer := c.answers[calls]
				calls++
				status, body, _ := strings.Cut(answer, " ")
				w.WriteHeader(map[string]int{"200": 200, "404": 404, "503": 503}[status])
				_, _ = w.Write([]byte(body))
			}))
			defer s.Close()
			err := Task{
				TaskID:   "t",
				Callback: s.URL,
				Self:     Party{Role: "host", Index: 1},
			}.ReportStatus(t.Context(), StatusFailed)
			if c.err == "" {
				require.NoError(t, err)
			} else {
				require.ErrorContains(t, err, c.err)
			}
			require.Equal(t, c.calls, calls)
		})
	}

	require.NoError(t, Task{}.ReportStatus(t.Context(), StatusSuccess))
}

func FuzzFromEnviron(f *testing.F) {
	f.Add("config.node_id.host.0", "B")
	f.Add("runtime.component.input.x", `{"name":"a"}`)
	f.Fuzz(func(t *testing.T, key, value string) {
		task, err := FromEnviron([]string{key + "=" + value, "runtime.component.name=x"})
		if err == nil {
			for name, p := range task.Parties {
				require.Equal(t, name, p.String())
			}
		}
	})
}

func FuzzParseCSV(f *testing.F) {
	f.Add([]byte("id,x\na,1\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		header, rows, err := parseCSV(data)
		if err != nil {
			return
		}
		for _, row := range rows {
			require.Len(t, row, len(header))
		}
	})
}

// TestOpenStoreUsesTLS checks that secure=true in the address means TLS with a verified certificate.
func TestOpenStoreUsesTLS(t *testing.T) {
	server := httptest.NewTLSServer(http.NotFoundHandler())
	defer server.Close()
	address := "s3://" + server.Listener.Addr().String() + "?username=u&password=p&bucket=bucket"
	s, err := OpenStore(address + "&secure=true")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if _, err = s.Read(ctx, "n/x"); err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Fatalf("got %v, want a refusal of the unknown certificate", err)
	}
}
