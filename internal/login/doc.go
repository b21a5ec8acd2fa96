// Package login keeps the credentials with which the command line calls parties: in a file of the user, by
// the party's URL. It gets id tokens from the party's OpenID provider, with a browser on this machine (code
// flow with PKCE) or on another one (device flow), and refreshes them.
package login
