package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"hutong/bfia"
	"hutong/internal/login"
)

// loginTimeout is how long a login waits for the user at the provider.
const loginTimeout = 10 * time.Minute

// loginOptions are the flags of a login.
type loginOptions struct {
	tokenFile         string
	device, noBrowser bool
}

func newLoginCommand(c *client) *cobra.Command {
	var o loginOptions
	cmd := &cobra.Command{
		Use: "login", Short: "Log in at a party, for the client commands that follow", Args: noArguments,
		Long: "Logs in at the party of --url, and keeps the credentials in a file that only you can read.\n" +
			"A token is read from --token-file, or from standard input if that is no terminal. Without\n" +
			"one you log in at the party's OpenID provider with a browser; with --device that may run\n" +
			"on another machine. If the party has no provider, you are asked for a token.\n\n" +
			"HUTONG_TOKEN and HUTONG_TOKEN_FILE take precedence over what this command keeps.",
		Example: "  hutong login --url https://party.example:9380 --ca-file ca.pem\n" +
			"  hutong login --device\n  hutong login --token-file token.txt",
		RunE: func(cmd *cobra.Command, _ []string) error {
			who, err := c.login(cmd, o)
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "logged in at %s as %s\n", c.url, describeClient(who))
			return err
		},
	}
	cmd.Flags().
		StringVar(&o.tokenFile, "token-file", "", "file with a token of the party, or - for standard input")
	cmd.Flags().BoolVar(&o.device, "device", false, "log in with a browser on any machine, by a code")
	cmd.Flags().BoolVar(&o.noBrowser, "no-browser", false, "only show the address, and open no browser")
	cmd.MarkFlagsMutuallyExclusive("token-file", "device")
	return cmd
}

// login gets credentials, checks them at the party, and keeps them.
func (c *client) login(cmd *cobra.Command, o loginOptions) (*bfia.WhoAmI, error) {
	if err := checkSecret(c.url); err != nil {
		return nil, err
	}
	file, err := c.account.file()
	if err != nil {
		return nil, err
	}
	saved, err := c.account.saved(c.url)
	if err != nil {
		return nil, err
	}
	credentials := login.Credentials{}
	if credentials.Authorities, err = c.account.authorities(saved); err != nil {
		return nil, err
	}
	if err := c.credentials(cmd, o, &credentials); err != nil {
		return nil, err
	}
	token := credentials.Token
	if credentials.OIDC != nil {
		token = credentials.OIDC.IDToken
	}
	who, err := c.whoAmI(cmd.Context(), token)
	if err != nil {
		return nil, err
	}
	return who, file.Update(serverKey(c.url), func(*login.Credentials) (*login.Credentials, error) {
		return &credentials, nil
	})
}

// credentials gets a token, or logs in at the party's provider.
func (c *client) credentials(cmd *cobra.Command, o loginOptions, to *login.Credentials) (err error) {
	stdin, isFile := cmd.InOrStdin().(*os.File)
	interactive := isFile && terminal(stdin) != nil
	if o.tokenFile != "" || !interactive && !o.device && !o.noBrowser {
		to.Token, err = readToken(cmd.InOrStdin(), o.tokenFile)
		return err
	}
	var methods bfia.Login
	if err := c.getAs(cmd.Context(), bfia.PathLogin, "", &methods); err != nil {
		return err
	}
	switch {
	case methods.Open:
		return fmt.Errorf("party %s requires no login", methods.NodeID)
	case methods.OIDC == nil && !interactive:
		return fmt.Errorf("party %s has no OpenID provider: log in with --token-file", methods.NodeID)
	case methods.OIDC == nil:
		to.Token, err = askToken(cmd, stdin)
		return err
	}

	over, err := c.account.client(c.url)
	if err != nil {
		return err
	}
	over.Timeout = c.timeout
	ctx, cancel := context.WithTimeout(cmd.Context(), loginTimeout)
	defer cancel()
	provider := login.Provider(*methods.OIDC)
	if o.device {
		to.OIDC, err = login.Device(ctx, provider, over, cmd.OutOrStdout())
		return err
	}
	open := openBrowser
	if o.noBrowser {
		open = func(string) error { return nil }
	}
	to.OIDC, err = login.Browser(ctx, provider, over, cmd.OutOrStdout(), open)
	return err
}

// readToken reads a token from a file, or from stdin if the path is empty or -.
func readToken(stdin io.Reader, path string) (string, error) {
	from, r := "standard input", stdin
	if path != "" && path != "-" {
		f, err := os.Open(path)
		if err != nil {
			return "", usagef("--token-file: %w", err)
		}
		defer func() { _ = f.Close() }()
		from, r = path, f
	}
	line, err := bufio.NewReader(io.LimitReader(r, 64<<10)).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return "", fmt.Errorf("failed to read a token from %s: %w", from, err)
	}
	if line = strings.TrimSpace(line); line == "" {
		return "", usagef("%s has no token; add --device to log in at the party's OpenID provider", from)
	}
	return line, nil
}

// askToken asks for a token, which it does not show.
func askToken(cmd *cobra.Command, stdin *os.File) (string, error) {
	_, _ = fmt.Fprint(cmd.ErrOrStderr(), "Token: ")
	text, err := term.ReadPassword(int(stdin.Fd()))
	_, _ = fmt.Fprintln(cmd.ErrOrStderr())
	if err != nil {
		return "", fmt.Errorf("failed to read the token: %w", err)
	}
	return readToken(strings.NewReader(string(text)), "-")
}

// openBrowser opens an address in the user's browser.
func openBrowser(address string) error {
	program := "xdg-open"
	if runtime.GOOS == "darwin" {
		program = "open"
	}
	return exec.Command(program, address).Start()
}

func newLogoutCommand(c *client) *cobra.Command {
	return &cobra.Command{
		Use: "logout", Short: "Delete the credentials for a party", Args: noArguments,
		Long: "Deletes what 'hutong login' keeps for the party of --url. A token itself stays valid until\n" +
			"it expires or is revoked.",
		Example: "  hutong logout --url https://party.example:9380",
		RunE: func(cmd *cobra.Command, _ []string) error {
			file, err := c.account.file()
			if err != nil {
				return err
			}
			_, found, err := file.Get(serverKey(c.url))
			if err == nil && !found {
				return fmt.Errorf("there are no credentials for %s", c.url)
			}
			if err != nil {
				return err
			}
			if err := file.Update(serverKey(c.url), func(*login.Credentials) (*login.Credentials, error) {
				return nil, nil
			}); err != nil {
				return err
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), "logged out at", c.url)
			return err
		},
	}
}

func newWhoAmICommand(c *client) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use: "whoami", Short: "Show as whom a party sees you, and your roles", Args: noArguments,
		Example: "  hutong whoami\n  hutong whoami -o json",
		RunE: func(cmd *cobra.Command, _ []string) error {
			var data json.RawMessage
			if err := c.get(cmd.Context(), bfia.PathWhoAmI, nil, &data); err != nil {
				return err
			}
			if asJSON {
				return printJSON(cmd.OutOrStdout(), data)
			}
			var who bfia.WhoAmI
			if err := json.Unmarshal(data, &who); err != nil {
				return fmt.Errorf("failed to decode the answer: %w", err)
			}
			_, err := fmt.Fprintf(
				cmd.OutOrStdout(),
				"%s at party %s\n",
				describeClient(&who),
				plain(who.NodeID),
			)
			return err
		},
	}
	jsonFlag(cmd, &asJSON)
	return cmd
}

// describeClient describes a client in one line.
func describeClient(who *bfia.WhoAmI) string {
	name := valueOr(plain(who.Name), "anonymous")
	roles := "no roles: ask an administrator"
	if len(who.Roles) > 0 {
		roles = "roles " + plain(strings.Join(who.Roles, ", "))
	}
	proof := plain(who.Proof)
	if who.Credential != "" {
		proof += " " + plain(who.Credential)
	}
	return fmt.Sprintf("%s (%s; %s)", name, roles, proof)
}

// whoAmI asks a party who the holder of a token is.
func (c *client) whoAmI(ctx context.Context, token string) (*bfia.WhoAmI, error) {
	var who bfia.WhoAmI
	if err := c.getAs(ctx, bfia.PathWhoAmI, token, &who); err != nil {
		return nil, err
	}
	return &who, nil
}
