package party

import (
	"fmt"
	"log/slog"

	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/temporal"

	"hutong/internal/codec"
)

// OpenKeys opens the keys that encrypt what the party stores in Temporal. Without encryption it returns nil.
func (c *Config) OpenKeys(logger *slog.Logger) (*codec.Ring, error) {
	e := c.Temporal.Encryption
	if !e.enabled() {
		return nil, nil
	}
	ring, err := codec.OpenRing(codec.Source{Dir: e.KeysDir, Files: e.Keys, Use: e.KeyID,
		Algorithm: e.Algorithm}, logger)
	if err != nil {
		return nil, fmt.Errorf("temporal.encryption: %w", err)
	}
	return ring, nil
}

// encrypt has a client encrypt what it stores, also the words of failures.
func encrypt(options *client.Options, by *codec.Codec) {
	options.DataConverter = converter.NewCodecDataConverter(converter.GetDefaultDataConverter(), by)
	options.FailureConverter = temporal.NewDefaultFailureConverter(temporal.DefaultFailureConverterOptions{
		DataConverter: options.DataConverter, EncodeCommonAttributes: true})
}

// workflowClient returns the client of the control worker, which shares the connection of c: it waits for a
// key that is not there yet, instead of failing jobs.
func (p *Party) workflowClient(c client.Client) (client.Client, error) {
	ring, err := p.cfg.OpenKeys(p.logger)
	if err != nil || ring == nil {
		return c, err
	}
	options, err := p.temporalOptions()
	if err != nil {
		return nil, err
	}
	encrypt(&options, ring.WorkflowCodec())
	w, err := client.NewClientFromExisting(c, options)
	if err != nil {
		return nil, fmt.Errorf("failed to connect the control worker of party %s to Temporal: %w",
			p.cfg.NodeID, err)
	}
	return w, nil
}

// encryption checks the fields of temporal.encryption and temporal.codec.
func (v *validation) encryption(c TemporalConfig) {
	e := c.Encryption
	if e.KeysDir != "" && len(e.Keys) > 0 {
		v.wrong("temporal.encryption", "set keys_dir or keys, not both")
	}
	if len(e.Keys) > 0 && e.KeyID == "" {
		v.wrong("temporal.encryption.key_id", "is required with keys: it names the key to encrypt with")
	}
	if !e.enabled() && e.KeyID != "" {
		v.wrong("temporal.encryption.key_id", "requires keys_dir or keys")
	}
	if e.Algorithm != "" {
		oneOf(v, "temporal.encryption.algorithm", e.Algorithm, codec.Algorithms()...)
	}
	for id := range e.Keys {
		if err := codec.CheckKeyID(id); err != nil {
			v.wrong("temporal.encryption.keys", "%v", err)
		}
	}
	v.address("temporal.codec.listen", c.Codec.Listen)
	for _, origin := range c.Codec.Origins {
		if err := codec.CheckOrigin(origin); err != nil {
			v.wrong("temporal.codec.origins", "%v", err)
		}
	}
}
