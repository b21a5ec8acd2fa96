package pack

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/docker/docker/client"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"hutong/test/testenv"
)

// untar returns the files of a tar file, by name, with their headers.
func untar(t *testing.T, data io.Reader) (map[string][]byte, map[string]*tar.Header) {
	t.Helper()
	files, headers := map[string][]byte{}, map[string]*tar.Header{}
	archive := tar.NewReader(data)
	for {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return files, headers
		}
		require.NoError(t, err)
		content, err := io.ReadAll(archive)
		require.NoError(t, err)
		files[header.Name], headers[header.Name] = content, header
	}
}

func testRelease(t *testing.T) Release {
	return Release{Root: testenv.Root(t), Version: "1.2.3-test", Commit: "0123456789ab",
		Time: time.Unix(1_700_000_000, 0)}
}

// TestImageLayout reads an image as a registry and as docker load would, and checks every digest.
func TestImageLayout(t *testing.T) {
	image := testRelease(t).HutongImage("arm64", []byte("program"))
	var first, second bytes.Buffer
	digest, err := image.Write(&first)
	require.NoError(t, err)
	again, err := image.Write(&second)
	require.NoError(t, err)
	require.Equal(t, digest, again)
	require.Equal(t, first.Bytes(), second.Bytes())

	files, _ := untar(t, &first)
	blob := func(d descriptor) []byte {
		data := files[blobPath(d)]
		assert.Len(t, data, d.Size)
		assert.Equal(t, d.Digest, digestOf(data))
		return data
	}
	var i index
	require.NoError(t, json.Unmarshal(files["index.json"], &i))
	require.Len(t, i.Manifests, 1)
	assert.Equal(t, digest, i.Manifests[0].Digest)
	assert.Equal(t, &platform{Architecture: "arm64", OS: "linux"}, i.Manifests[0].Platform)
	var m manifest
	require.NoError(t, json.Unmarshal(blob(i.Manifests[0]), &m))
	var c imageConfig
	require.NoError(t, json.Unmarshal(blob(m.Config), &c))
	assert.Equal(t, "arm64", c.Architecture)
	assert.Equal(t, "65530:65530", c.Config.User)
	assert.Equal(t, []string{"/hutong"}, c.Config.Entrypoint)
	assert.Equal(t, "1.2.3-test", c.Config.Labels["org.opencontainers.image.version"])
	assert.Equal(t, "0123456789ab", c.Config.Labels["org.opencontainers.image.revision"])

	layer, err := gzip.NewReader(bytes.NewReader(blob(m.Layers[0])))
	require.NoError(t, err)
	plain, err := io.ReadAll(layer)
	require.NoError(t, err)
	assert.Equal(t, c.RootFS.DiffIDs, []string{digestOf(plain)})
	content, headers := untar(t, bytes.NewReader(plain))
	assert.Equal(t, "program", string(content["hutong"]))
	for name, header := range headers {
		assert.Equal(t, int64(1_700_000_000), header.ModTime.Unix(), name)
		if name != "var/lib/hutong/" {
			assert.Zero(t, header.Uid, name)
			assert.True(t, header.Mode&0o022 == 0 || header.Mode&0o1000 != 0, "%s is writable for others",
				name)
		}
	}
	assert.Equal(t, 65530, headers["var/lib/hutong/"].Uid)
	assert.Equal(t, int64(0o1777), headers["tmp/"].Mode)

	var loaded []dockerImage
	require.NoError(t, json.Unmarshal(files["manifest.json"], &loaded))
	assert.Equal(t, []dockerImage{{Config: blobPath(m.Config), RepoTags: []string{"hutong/hutong:1.2.3-test"},
		Layers: []string{blobPath(m.Layers[0])}}}, loaded)
}

func TestReleaseIsChecked(t *testing.T) {
	good := testRelease(t)
	require.NoError(t, good.Validate())
	for field, change := range map[string]func(*Release){
		"the version":  func(r *Release) { r.Version = "1.0+x" },
		"the commit":   func(r *Release) { r.Commit = "" },
		"the time of ": func(r *Release) { r.Time = time.Unix(0, 0) },
	} {
		bad := good
		change(&bad)
		require.ErrorContains(t, bad.Validate(), field)
	}
}

// TestBuildsAreReproducible builds an image here, and from a copy of the sources in another folder with
// an empty build cache. The program is a small one: Hutong's and the provider's take minutes, so
// HUTONG_TEST_IMAGE=1 (make image-test) adds them.
func TestBuildsAreReproducible(t *testing.T) {
	small := testRelease(t)
	small.Root = t.TempDir()
	const source = "package main\n\nimport \"runtime\"\n\nfunc main() {\n" +
		"\t_, file, _, _ := runtime.Caller(0)\n\tprintln(file, runtime.Version())\n}\n"
	for name, text := range map[string]string{"go.mod": "module small\n\ngo 1.26\n", "main.go": source} {
		require.NoError(t, os.WriteFile(filepath.Join(small.Root, name), []byte(text), 0o644))
	}
	other := small
	other.Root = filepath.Join(t.TempDir(), "some", "where", "else")
	require.NoError(t, os.MkdirAll(filepath.Dir(other.Root), 0o755))
	require.NoError(t, os.CopyFS(other.Root, os.DirFS(small.Root)))
	requireSameBuilds(t, small, other, Program{Name: "small", Module: ".", Package: "."}, small.ProviderImage)

	if os.Getenv("HUTONG_TEST_IMAGE") == "1" {
		r := testRelease(t)
		other = r
		other.Root = filepath.Join(t.TempDir(), "some", "where", "else")
		copySources(t, r.Root, other.Root)
		requireSameBuilds(t, r, other, r.Provider(), r.ProviderImage)
		requireSameBuilds(t, r, other, r.Hutong(), r.HutongImage)
	}
}

// requireSameBuilds builds an image of one program from two folders, the second time with an empty build
// cache and with flags of a user, which must not count.
func requireSameBuilds(t *testing.T, one, two Release, p Program, describe func(string, []byte) Image) {
	t.Helper()
	first, err := one.image(t.Context(), t.TempDir(), p, runtime.GOARCH, describe)
	require.NoError(t, err)
	t.Setenv("GOCACHE", t.TempDir())
	t.Setenv("GOFLAGS", "-ldflags=-w")
	second, err := two.image(t.Context(), t.TempDir(), p, runtime.GOARCH, describe)
	require.NoError(t, err)
	assert.Equal(t, first.Digest, second.Digest)
	for _, file := range []func(BuiltImage) string{
		func(b BuiltImage) string { return b.File },
		BuiltImage.SBOMFile,
	} {
		a, err := os.ReadFile(file(first))
		require.NoError(t, err)
		b, err := os.ReadFile(file(second))
		require.NoError(t, err)
		assert.True(t, bytes.Equal(a, b), "%s differs", filepath.Base(file(first)))
		assert.NotContains(t, string(a), one.Root)
	}
}

// TestSBOM reads what make build has built.
func TestSBOM(t *testing.T) {
	r := testRelease(t)
	file := testenv.Binary(t, "provider")
	program, err := os.ReadFile(file)
	require.NoError(t, err)
	data, err := r.SBOM(r.Provider(), file, program)
	require.NoError(t, err)
	var document bom
	require.NoError(t, json.Unmarshal(data, &document))
	assert.Equal(t, "CycloneDX", document.Format)
	assert.Equal(t, strings.TrimPrefix(digestOf(program), "sha256:"),
		document.Metadata.Component.Hashes[0].Content)
	modules := map[string]component{}
	for _, c := range document.Components {
		modules[c.Name] = c
	}
	assert.Equal(t, strings.TrimPrefix(runtime.Version(), "go"), modules["std"].Version)
	minio := modules["github.com/minio/minio-go/v7"]
	assert.Regexp(t, `^pkg:golang/github.com/minio/minio-go/v7@v7\.`, minio.PURL)
	assert.Len(t, minio.Hashes[0].Content, 64)
}

// copySources copies the files of a folder that Git does not ignore.
func copySources(t *testing.T, from, to string) {
	t.Helper()
	list, err := exec.Command("git", "-C", from, "ls-files", "-z", "--cached", "--others",
		"--exclude-standard").Output()
	require.NoError(t, err)
	for name := range strings.SplitSeq(strings.TrimSuffix(string(list), "\x00"), "\x00") {
		data, err := os.ReadFile(filepath.Join(from, name))
		if errors.Is(err, fs.ErrNotExist) {
			continue // deleted, but not yet in a commit
		}
		require.NoError(t, err)
		require.NoError(t, os.MkdirAll(filepath.Dir(filepath.Join(to, name)), 0o755))
		require.NoError(t, os.WriteFile(filepath.Join(to, name), data, 0o644))
	}
}

// TestImageRunsConfined loads the image into Docker Engine and runs it without a writable root file system,
// capabilities and network: the command line, and Temporal with two parties on a new volume. The program is
// that of make build, which has Temporal in it.
func TestImageRunsConfined(t *testing.T) {
	cli, err := client.NewClientWithOpts(client.FromEnv, client.WithAPIVersionNegotiation())
	require.NoError(t, err)
	defer func() { _ = cli.Close() }()
	if _, err := cli.Ping(t.Context()); err != nil {
		require.NotEqual(t, "1", os.Getenv("HUTONG_REQUIRE_DOCKER"), "no Docker Engine answers: %v", err)
		t.Skipf("no Docker Engine answers: %v", err)
	}
	program, err := os.ReadFile(testenv.Binary(t, "hutong"))
	require.NoError(t, err)
	info, err := cli.Info(t.Context())
	require.NoError(t, err)
	arch := map[string]string{"x86_64": "amd64", "aarch64": "arm64"}[info.Architecture]
	r := testRelease(t)
	r.Version = strings.ToLower(strings.ReplaceAll(t.Name(), "/", "-"))
	image := r.HutongImage(arch, program)
	file := filepath.Join(t.TempDir(), "image.tar")
	out, err := os.Create(file)
	require.NoError(t, err)
	_, err = image.Write(out)
	require.NoError(t, err)
	require.NoError(t, out.Close())
	docker := func(args ...string) (string, error) {
		output, err := exec.CommandContext(t.Context(), "docker", args...).CombinedOutput()
		return string(output), err
	}
	output, err := docker("load", "-i", file)
	require.NoError(t, err, output)
	t.Cleanup(func() { _ = exec.Command("docker", "rmi", "-f", image.Tag).Run() })

	confined := []string{"run", "--rm", "--read-only", "--cap-drop", "ALL", "--network", "none",
		"--security-opt", "no-new-privileges"}
	output, err = docker(append(confined, image.Tag, "--version")...)
	require.NoError(t, err, output)
	assert.Regexp(t, `^hutong \S+, commit \S+.*, go1\.`, output)
	// As any other user it can read the program, and nothing to write is there.
	output, err = docker(append(confined, "--user", "12345:12345", "--env",
		"HUTONG_NODE_ID=JG0100001100000010",
		image.Tag, "config")...)
	require.NoError(t, err, output)
	assert.Contains(t, output, "node_id: JG0100001100000010")

	const name = "hutong-pack-test"
	_, _ = docker("rm", "-f", "-v", name) // of an interrupted run
	t.Cleanup(func() { _ = exec.Command("docker", "rm", "-f", "-v", name).Run() })
	output, err = docker(append([]string{"run", "-d", "--name", name, "-v", "/var/lib/hutong", "--tmpfs",
		"/tmp"},
		append(confined[2:], image.Tag, "dev", "--no-docker", "--allow", "/hutong")...)...)
	require.NoError(t, err, output)
	for deadline := time.Now().Add(5 * time.Minute); !strings.Contains(output, "Hutong is ready"); {
		state, err := docker("inspect", "-f", "{{.State.Running}}", name)
		require.NoError(t, err, state)
		output, err = docker("logs", name)
		require.NoError(t, err, output)
		require.Equal(t, "true\n", state, output)
		require.True(t, time.Now().Before(deadline), output)
		time.Sleep(200 * time.Millisecond)
	}
	output, err = docker("exec", name, "/hutong", "job", "list")
	require.NoError(t, err, output)
	output, err = docker("stop", "-t", "120", name)
	require.NoError(t, err, output)
	output, err = docker("inspect", "-f", "{{.State.ExitCode}}", name)
	require.NoError(t, err, output)
	assert.Equal(t, "0\n", output)
}
