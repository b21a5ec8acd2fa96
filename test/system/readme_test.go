package system

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"hutong/bfia"
	"hutong/test/testenv"
)

// readme returns the fenced blocks of one language in the README or its translation.
func readme(t *testing.T, name, language string) (blocks []string) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(testenv.Root(t), name))
	require.NoError(t, err)
	for _, m := range regexp.MustCompile("(?s)```"+language+"\n(.*?)```").FindAllStringSubmatch(string(text),
		-1) {
		blocks = append(blocks, m[1])
	}
	return blocks
}

// readmeScript returns the README's commands of a user: those of the client, then those of curl.
func readmeScript(t *testing.T, name string) (script string) {
	t.Helper()
	for _, block := range readme(t, name, "sh") {
		if strings.Contains(block, "HUTONG_URL=") || strings.Contains(block, "curl ") {
			script += block
		}
	}
	return script
}

// TestReadme runs the README's commands and curl examples as they are written, with the README's job. Only
// the ports of the two parties differ, and the registration is for the process driver.
func TestReadme(t *testing.T) {
	if _, err := exec.LookPath("curl"); err != nil {
		t.Skipf("there is no curl: %v", err)
	}
	t.Parallel()
	pair := newPartyPair(t, openly) // as hutong dev
	pair.guest.start()
	pair.host.start()

	dir := t.TempDir()
	root := testenv.Root(t)
	link := func(from, to string) {
		t.Helper()
		require.NoError(t, os.MkdirAll(filepath.Dir(filepath.Join(dir, to)), 0o755))
		require.NoError(t, os.Symlink(from, filepath.Join(dir, to)))
	}
	link(testenv.Binary(t, "hutong"), "bin/hutong")
	link(filepath.Join(root, "testdata"), "testdata")
	link(filepath.Join(root, "deploy"), "deploy")
	registration, err := os.ReadFile(filepath.Join(root, "providers", "reference", "provider.json"))
	require.NoError(t, err)
	require.NoError(t, os.MkdirAll(filepath.Join(dir, "providers", "reference"), 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "providers", "reference", "provider.json"),
		editJSON(t, registration, func(fields map[string]any) {
			fields["device"] = "process"
			fields["metadata"] = map[string]any{"command": []string{testenv.Binary(t, "provider")}}
		}), 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "job.json"), []byte(readme(t, "README.md", "json")[0]),
		0o600))

	script := "set -euo pipefail\n" +
		// An answer of curl must report success. The function keeps what the user sees.
		"curl() { command curl -sS \"$@\" > answer; cat answer; echo; grep -q '\"code\": *0' answer; }\n" +
		readmeScript(t, "README.md")
	script = strings.NewReplacer("http://127.0.0.1:9380", pair.guest.url, "http://127.0.0.1:9480",
		pair.host.url).
		Replace(script)
	require.NotContains(t, script, ":9380")
	cmd := exec.CommandContext(t.Context(), "bash", "-xc", script)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)

	predictions, err := os.ReadFile(filepath.Join(dir, "predictions.csv"))
	require.NoError(t, err)
	require.Contains(t, strings.Split(string(predictions), "\n")[0], "id")
	require.Contains(t, string(out), "has already ended", "job stop")
	require.Contains(t, string(out), "Nothing was created.", "job submit --dry-run")
	require.NotContains(t, string(out), "warning:")
	var list bfia.JobList
	pair.guest.mustRequest("GET", bfia.PathPlatformJobList, nil, &list)
	require.Len(t, list.Jobs, 4, "one submitted, one again, one with an arbiter, one by curl")
}

// TestReadmeTranslation checks that the translation has the same commands and the same job.
func TestReadmeTranslation(t *testing.T) {
	t.Parallel()
	comments := regexp.MustCompile(`(?m)\s+#.*$`)
	plain := func(name string) string { return comments.ReplaceAllString(readmeScript(t, name), "") }
	require.NotEmpty(t, plain("README.md"))
	require.Equal(t, plain("README.md"), plain("README.zh.md"))
	require.Equal(t, readme(t, "README.md", "json"), readme(t, "README.zh.md", "json"))
}
