package api

import (
	"encoding/json"

	"github.com/gofiber/fiber/v2"

	"hutong/bfia"
	"hutong/internal/audit"
)

// allowProvider replaces the approved exceptions of the providers that the request names. A provider gets no
// exception that it does not ask for.
func (s *Server) allowProvider(c *fiber.Ctx) error {
	var fields map[string]json.RawMessage
	if err := s.readJSON(c, &fields); err != nil {
		return err
	}
	filter, err := providerFilter(func(name string) string { return text(fields[name]) })
	if err != nil {
		return err
	}
	if filter.Name == "" || filter.Version == "" {
		return bfia.Errorf(bfia.CodeBadRequest,
			"provider_name: is required, as name:version or name:version@device")
	}
	on(c.UserContext(), audit.Provider, providerID(filter.Name, filter.Version, filter.Device))
	var allow bfia.Exceptions
	if err := bfia.DecodeFields(fields, bfia.Required("allow", &allow)); err != nil {
		return err
	}
	found, err := s.store.Providers(c.UserContext(), filter)
	if err != nil {
		return err
	}
	if len(found) == 0 {
		return bfia.Errorf(bfia.CodeNotFound, "provider %s:%s is not registered", filter.Name, filter.Version)
	}
	for _, p := range found {
		var metadata bfia.Metadata
		if err := bfia.DecodeJSON(p.Metadata, &metadata); err != nil {
			return err
		}
		if beyond := allow.Beyond(metadata.Allow); beyond != (bfia.Exceptions{}) {
			return bfia.Errorf(bfia.CodeBadRequest,
				"allow: provider %s:%s@%s does not ask for %s; it asks for %s",
				p.Name, p.Version, p.Device, beyond, metadata.Allow)
		}
	}
	for _, p := range found {
		if err := s.store.AllowProvider(c.UserContext(), p, allow); err != nil {
			return err
		}
		s.logger.Info("the exceptions of a provider were set", "provider",
			p.Name+":"+p.Version+"@"+p.Device, "allowed", allow.String())
	}
	return answer(c, "success", map[string]any{"count": len(found)}, nil)
}
