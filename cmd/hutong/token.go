package main

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"hutong/bfia"
	durationflag "hutong/internal/duration"
	"hutong/internal/identity"
	"hutong/internal/party"
	"hutong/store"
)

// defaultTokenLife is how long a new token is valid unless its maker says otherwise.
const defaultTokenLife = 90 * 24 * time.Hour

// direct are the flags with which a command uses the party's database instead of its API: for the first
// token, before there is one to call the API with.
type direct struct {
	on   bool
	file string
}

func (d *direct) flags(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&d.on, "direct", false,
		"use the database of the party's configuration instead of its API, as the first token requires")
	cmd.Flags().StringVarP(&d.file, "config", "c", "",
		"the party's configuration file, with --direct (default: HUTONG_CONFIG, or the environment alone)")
}

// config returns the party's configuration, or nil without --direct.
func (d *direct) config() (*party.Config, error) {
	if !d.on && d.file != "" {
		return nil, usagef("-c: requires --direct")
	}
	if !d.on {
		return nil, nil
	}
	return party.Load(valueOr(d.file, os.Getenv("HUTONG_CONFIG")), os.Environ())
}

func newTokenCommand(c *client) *cobra.Command {
	return group("token", "Create, list and revoke the tokens of a party's clients",
		newTokenCreate(c), newTokenList(c), newTokenShow(c), newTokenRevoke(c))
}

func newTokenCreate(c *client) *cobra.Command {
	var d direct
	var name, roles string
	var life time.Duration
	var app bool
	cmd := &cobra.Command{
		Use: "create", Short: "Create a token for a user or a program", Args: noArguments,
		Long: "Creates a bearer token and prints it, once: the party stores only its hash. --name is the\n" +
			"user or program that will hold it. Give each person one name, since a job is not approved\n" +
			"by the one who submitted it. The first token of a party is created with --direct.\n\n" +
			"FATE's clients sign their requests and send no token. With --app it creates an app for\n" +
			"them: the id is that of the token, and 'flow init' takes both.\n\n" +
			"The roles are viewer, operator, data, logs, approver, provider-admin, runner-admin,\n" +
			"auditor and admin. viewer@risk is the role viewer in the project risk only.",
		Example: "  hutong token create --direct -c party.yaml --name alice --roles admin\n" +
			"  hutong token create --name ci --roles viewer,operator --expires 30d > ci.token\n" +
			"  hutong token create --app --name flow --roles viewer,operator,data,logs",
		RunE: func(cmd *cobra.Command, _ []string) error {
			list, err := identity.ParseRoles(roles)
			if err != nil {
				return usagef("--roles: %w", err)
			}
			if life < 0 {
				return usagef("--expires: must not be negative; 0 means never")
			}
			var expires *time.Time
			if life > 0 {
				at := time.Now().Add(life).UTC().Truncate(time.Second)
				expires = &at
			}
			cfg, err := d.config()
			if err != nil {
				return err
			}
			var made bfia.TokenCreated
			if cfg != nil {
				create := party.CreateToken
				if app {
					create = party.CreateApp
				}
				secret, row, err := create(cmd.Context(), cfg, name, list, expires)
				if err != nil {
					return err
				}
				made.Token, made.TokenView = secret, tokenView(row)
			} else {
				request := bfia.CreateToken{Name: name, ExpiresAt: expires, App: app}
				for _, role := range list {
					request.Roles = append(request.Roles, string(role))
				}
				if _, err := c.post(cmd.Context(), bfia.PathTokenCreate, request, &made); err != nil {
					return err
				}
			}
			_, _ = fmt.Fprintf(
				cmd.ErrOrStderr(),
				"%s %s of %s, roles %s, expires %s; its token is shown only now:\n",
				tokenKind(made.TokenView),
				made.TokenID,
				made.Name,
				strings.Join(made.Roles, ", "),
				expiryText(made.ExpiresAt),
			)
			_, err = fmt.Fprintln(cmd.OutOrStdout(), made.Token)
			return err
		},
	}
	cmd.Flags().StringVar(&name, "name", "", "the user or program that will hold the token")
	cmd.Flags().StringVar(&roles, "roles", "", "its roles, separated by commas")
	durationflag.Flag(
		cmd.Flags(),
		&life,
		"expires",
		defaultTokenLife,
		"how long it is valid; 0 means for ever",
	)
	cmd.Flags().BoolVar(&app, "app", false, "create an app of FATE-Flow's client authentication")
	_, _ = cmd.MarkFlagRequired("name"), cmd.MarkFlagRequired("roles") // fail only for an unknown flag
	d.flags(cmd)
	return cmd
}

func tokenView(t store.Token) bfia.TokenView {
	return bfia.TokenView{TokenID: t.TokenID, App: t.App, Name: t.Name, Roles: t.Roles,
		CreatedBy: t.CreatedBy, CreatedAt: t.CreatedAt, ExpiresAt: t.ExpiresAt, RevokedAt: t.RevokedAt,
		LastUsedOn: t.LastUsedOn}
}

func tokenKind(t bfia.TokenView) string {
	if t.App {
		return "app"
	}
	return "token"
}

func expiryText(at *time.Time) string {
	if at == nil {
		return "never"
	}
	return at.UTC().Format(time.RFC3339)
}

func newTokenList(c *client) *cobra.Command {
	var d direct
	var asJSON bool
	cmd := &cobra.Command{
		Use: "list", Short: "List tokens with their roles, expiry and last use", Args: noArguments,
		Example: "  hutong token list\n  hutong token list --direct -c party.yaml",
		RunE: func(cmd *cobra.Command, _ []string) error {
			tokens, err := c.tokens(cmd, &d)
			if err != nil {
				return err
			}
			if asJSON {
				data, err := json.Marshal(tokens)
				if err != nil {
					return fmt.Errorf("failed to encode the tokens: %w", err)
				}
				return printJSON(cmd.OutOrStdout(), data)
			}
			return printList(cmd, "tokens", tokenTable(tokens, time.Now()))
		},
	}
	jsonFlag(cmd, &asJSON)
	d.flags(cmd)
	return cmd
}

func newTokenShow(c *client) *cobra.Command {
	var d direct
	var asJSON bool
	cmd := &cobra.Command{
		Use: "show TOKEN_ID", Short: "Show a token's holder, roles, expiry and last use",
		Args:    exactly("TOKEN_ID"),
		Example: "  hutong token show t-4k2x7qgmz3ab\n  hutong token show t-4k2x7qgmz3ab -o json",
		RunE: func(cmd *cobra.Command, args []string) error {
			tokens, err := c.tokens(cmd, &d)
			if err != nil {
				return err
			}
			var documents []json.RawMessage
			for _, t := range tokens {
				document, err := json.Marshal(t)
				if err != nil {
					return fmt.Errorf("failed to encode a token: %w", err)
				}
				documents = append(documents, document)
			}
			return showNamed(cmd, asJSON, "token", "token_id", args[0], documents)
		},
	}
	jsonFlag(cmd, &asJSON)
	d.flags(cmd)
	return cmd
}

// tokens returns the tokens of the party, from its API or its database.
func (c *client) tokens(cmd *cobra.Command, d *direct) ([]bfia.TokenView, error) {
	cfg, err := d.config()
	if err != nil {
		return nil, err
	}
	tokens := []bfia.TokenView{}
	if cfg == nil {
		err := c.get(cmd.Context(), bfia.PathTokenQuery, nil, &tokens)
		return tokens, err
	}
	rows, err := party.Tokens(cmd.Context(), cfg)
	for _, row := range rows {
		tokens = append(tokens, tokenView(row))
	}
	return tokens, err
}

func tokenTable(tokens []bfia.TokenView, now time.Time) [][]string {
	rows := [][]string{{"TOKEN", "NAME", "KIND", "STATE", "ROLES", "EXPIRES", "LAST USED", "CREATED BY"}}
	for _, t := range tokens {
		state := "valid"
		switch {
		case t.RevokedAt != nil:
			state = "revoked"
		case t.ExpiresAt != nil && !now.Before(*t.ExpiresAt):
			state = "expired"
		}
		rows = append(rows, []string{t.TokenID, t.Name, tokenKind(t), state, strings.Join(t.Roles, ", "),
			expiryText(t.ExpiresAt), valueOr(t.LastUsedOn, "never"), t.CreatedBy})
	}
	return rows
}

func newTokenRevoke(c *client) *cobra.Command {
	var d direct
	cmd := &cobra.Command{
		Use: "revoke TOKEN_ID", Short: "Revoke a token or an app, at once and for ever",
		Args:    exactly("TOKEN_ID"),
		Example: "  hutong token revoke t-4k2x7qgmz3ab",
		RunE: func(cmd *cobra.Command, args []string) error {
			cfg, err := d.config()
			if err != nil {
				return err
			}
			if cfg != nil {
				err = party.RevokeToken(cmd.Context(), cfg, args[0])
			} else {
				_, err = c.post(cmd.Context(), bfia.PathTokenRevoke, bfia.RevokeToken{TokenID: args[0]}, nil)
			}
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "token %s is revoked\n", args[0])
			return err
		},
	}
	d.flags(cmd)
	return cmd
}
