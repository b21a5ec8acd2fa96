// Package fateclient runs FATE's own client, fate_client 2.2.0 from its package index, against two parties of
// a development deployment: every command of flow, and the pipeline. Each test compares what the client
// prints with what it should. install.sh installs the client.
//
// The tests run with `make fate-client`.
package fateclient
