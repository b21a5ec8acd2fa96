package systemd

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"hutong/test/testenv"
)

// analyze runs systemd-analyze, or skips the test where systemd is not installed.
func analyze(t *testing.T, args ...string) (string, error) {
	t.Helper()
	program, err := exec.LookPath("systemd-analyze")
	if err != nil {
		require.NotEqual(t, "1", os.Getenv("HUTONG_REQUIRE_SYSTEMD"), "systemd-analyze is not installed")
		t.Skip("systemd-analyze is not installed")
	}
	output, err := exec.CommandContext(t.Context(), program, args...).CombinedOutput()
	return string(output), err
}

// units returns the paths of the units, in a copy that names an existing program.
func units(t *testing.T) (paths []string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(testenv.Root(t), "deploy", "systemd", "hutong*.*"))
	require.NoError(t, err)
	require.Len(t, files, 8)
	dir := t.TempDir()
	program := filepath.Join(dir, "hutong")
	require.NoError(t, os.WriteFile(program, []byte("#!/bin/sh\n"), 0o755))
	for _, file := range files {
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		path := filepath.Join(dir, filepath.Base(file))
		text = []byte(strings.ReplaceAll(string(text), "/usr/bin/hutong", program))
		require.NoError(t, os.WriteFile(path, text, 0o644))
		paths = append(paths, path)
	}
	return paths
}

// TestUnitsAreValid lets systemd check every unit: unknown settings, values, commands and dependencies.
func TestUnitsAreValid(t *testing.T) {
	output, err := analyze(t, append([]string{"verify", "--man=no"}, units(t)...)...)
	require.NoError(t, err, output)
	for line := range strings.Lines(output) {
		assert.NotContains(t, line, "hutong", "systemd-analyze verify")
	}
}

// TestUnitsAreHardened bounds the exposure that systemd computes, which is 9.6 of 10 for a unit without
// hardening.
func TestUnitsAreHardened(t *testing.T) {
	level := regexp.MustCompile(`Overall exposure level for \S+: (\S+)`)
	for _, unit := range units(t) {
		if !strings.HasSuffix(unit, ".service") {
			continue
		}
		output, err := analyze(t, "security", "--no-pager", "--offline=true", "--threshold=25", unit)
		require.NoError(t, err, output)
		found := level.FindStringSubmatch(output)
		require.NotNil(t, found, output)
		t.Logf("%s: %s", filepath.Base(unit), found[1])
	}
}

// TestUnitsRunWhatExists checks that the program has the commands and flags of the units, and that their
// variables are fields of the configuration.
func TestUnitsRunWhatExists(t *testing.T) {
	program := testenv.Binary(t, "hutong")
	for _, unit := range units(t) {
		text, err := os.ReadFile(unit)
		require.NoError(t, err)
		for line := range strings.Lines(strings.ReplaceAll(string(text), "\\\n", "")) {
			if command, ok := strings.CutPrefix(strings.TrimSpace(line), "ExecStart="); ok {
				args := append(strings.Fields(command)[1:], "--help")
				output, err := exec.CommandContext(t.Context(), program, args...).CombinedOutput()
				require.NoError(t, err, "%s", output)
			}
		}
	}
	dir := t.TempDir()
	environ := []string{"HUTONG_CONFIG=" + filepath.Join(dir, "party.yaml"), "HUTONG_DATA_DIR=" + dir,
		"HUTONG_DATABASE_URL_FILE=" + filepath.Join(dir, "database_url"),
		"HUTONG_STORAGE_URL_FILE=" + filepath.Join(dir, "storage_url")}
	for name, text := range map[string]string{"party.yaml": "node_id: JG0100001100000010\n",
		"database_url": "postgres://hutong:secret@127.0.0.1/hutong\n",
		"storage_url":  "s3://127.0.0.1:9000?username=hutong&password=secret&bucket=hutong\n"} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o400))
	}
	cmd := exec.CommandContext(t.Context(), program, "config")
	cmd.Env = environ
	output, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", output)
	for _, variable := range environ[1:] {
		_, value, _ := strings.Cut(variable, "=")
		assert.Contains(t, string(output), value)
	}
	assert.NotContains(t, string(output), "secret@")
}

// TestUnitsServeMetrics checks that the processes of a machine serve health and metrics at different
// addresses, and that the support archive and Prometheus read all of them.
func TestUnitsServeMetrics(t *testing.T) {
	listen := regexp.MustCompile(`(?m)^Environment=HUTONG_OPS_LISTEN=(\S+)$`)
	addresses := map[string]string{}
	for _, unit := range units(t) {
		text, err := os.ReadFile(unit)
		require.NoError(t, err)
		name := strings.TrimSuffix(filepath.Base(unit), ".service")
		switch name {
		case "hutong-api", "hutong-control", "hutong-runner", "hutong-transport":
			found := listen.FindAllStringSubmatch(string(text), -1)
			require.Len(t, found, 1, name)
			assert.NotContains(t, addresses, found[0][1], name)
			addresses[found[0][1]] = name
		}
	}
	require.Len(t, addresses, 4)
	root := testenv.Root(t)
	support, err := os.ReadFile(filepath.Join(root, "deploy", "systemd", "hutong-support.service"))
	require.NoError(t, err)
	prometheus, err := os.ReadFile(filepath.Join(root, "deploy", "observe", "prometheus.yml"))
	require.NoError(t, err)
	install, err := os.ReadFile(filepath.Join(root, "docs", "operators", "install.md"))
	require.NoError(t, err)
	for address, unit := range addresses {
		assert.Contains(t, string(prometheus), `"`+address+`"`, unit)
		assert.Contains(t, string(install), "`"+address+"`", unit)
		if unit == "hutong-api" {
			assert.Contains(t, string(support), "HUTONG_OPS_LISTEN="+address+"\n", unit)
		} else {
			assert.Contains(t, string(support), "--metrics http://"+address+"/metrics", unit)
		}
	}
}

// TestInstallScript installs below a folder, twice, and overwrites no configuration.
func TestInstallScript(t *testing.T) {
	root := t.TempDir()
	program := filepath.Join(t.TempDir(), "hutong")
	script := filepath.Join(testenv.Root(t), "deploy", "systemd", "install.sh")
	for _, content := range []string{"old", "new"} {
		require.NoError(t, os.WriteFile(program, []byte(content), 0o755))
		cmd := exec.CommandContext(t.Context(), script, program)
		cmd.Env = append(os.Environ(), "DESTDIR="+root)
		output, err := cmd.CombinedOutput()
		require.NoError(t, err, "%s", output)
		installed, err := os.ReadFile(filepath.Join(root, "usr", "bin", "hutong"))
		require.NoError(t, err)
		assert.Equal(t, content, string(installed))
	}
	for _, file := range []string{"usr/lib/systemd/system/hutong-api.service",
		"usr/lib/sysusers.d/hutong.conf",
		"usr/lib/tmpfiles.d/hutong.conf", "usr/share/doc/hutong/operators/support.md"} {
		assert.FileExists(t, filepath.Join(root, file))
	}
	assert.NoDirExists(t, filepath.Join(root, "etc"))
}
