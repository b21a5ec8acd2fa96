package imageref

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestCheckAllowed(t *testing.T) {
	digest := "sha256:" + strings.Repeat("ab", 32)
	bank := []string{"registry.bank.example/team", "localhost:5000"}
	for _, c := range []struct {
		registries []string
		image      string
		digest     bool
		refused    string
	}{
		{nil, "anything:1", true, ""},
		{bank, "registry.bank.example/team/a:1", false, ""},
		{bank, "registry.bank.example/team/sub/a", false, ""},
		{bank, "localhost:5000/a:1", false, ""},
		{bank, "registry.bank.example/team/a@" + digest, true, ""},
		{bank, "registry.bank.example/team/a:1@" + digest, true, ""},
		{bank, digest, true, ""},
		{bank, strings.Repeat("ab", 32), true, ""},
		{bank, "registry.bank.example/team/a:1", true, "by its digest"},
		{bank, "registry.bank.example/teammate/a:1", false, "does not allow"},
		{bank, "registry.bank.example/a:1", false, "of the registry registry.bank.example,"},
		{bank, "registry.bank.example.evil.example/team/a:1", false, "does not allow"},
		{bank, "localhost:5001/a:1", false, "does not allow"},
		{bank, "unionpay:2.0.0", false, "of the registry docker.io"},
		{[]string{"docker.io/library"}, "unionpay:2.0.0", false, ""},
		{[]string{"docker.io/library"}, "vendor/unionpay:2.0.0", false, "does not allow"},
		{bank, "registry.bank.example/team/../a", false, "not a reference"},
		{bank, "Registry.Bank.Example/team/a:1", false, "does not allow"},
		{bank, "", false, "not a reference"},
	} {
		err := CheckAllowed(c.registries, c.image, c.digest)
		if c.refused == "" {
			require.NoError(t, err, c.image)
			continue
		}
		require.ErrorContains(t, err, c.refused, c.image)
	}
}

func TestCheckRegistry(t *testing.T) {
	for _, good := range []string{"docker.io", "registry.bank.example", "registry.bank.example:5000/team/a",
		"localhost:5000"} {
		require.NoError(t, CheckRegistry(good), good)
	}
	for _, bad := range []string{"", "/", "https://registry.bank.example", "registry.bank.example/",
		"registry.bank.example/team/", "team", "registry.bank.example/Team", "*.bank.example"} {
		require.Error(t, CheckRegistry(bad), bad)
	}
}
