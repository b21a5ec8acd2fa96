package api

import (
	"cmp"
	"encoding/json"
	"maps"
	"slices"

	"github.com/gofiber/fiber/v2"

	"hutong/activities"
	"hutong/bfia"
	"hutong/internal/audit"
	"hutong/store"
)

// registerProvider creates or replaces a provider with all its components, as FATE-Flow's
// /v2/provider/register does.
func (s *Server) registerProvider(c *fiber.Ctx) error {
	body, err := s.readBody(c, s.MaxDocumentBytes)
	if err != nil {
		return err
	}
	reg, err := bfia.ParseRegistration(body)
	if err != nil {
		return err
	}
	on(c.UserContext(), audit.Provider, providerID(reg.Name, reg.Version, string(reg.Device)))
	if reg.Device == bfia.DeviceProcess {
		if err := s.AllowCommand(reg.Metadata.Command); err != nil {
			return bfia.Wrap(bfia.CodeForbidden, err, "metadata.command: %v", err)
		}
	}
	if err := s.checkImages("metadata.image", reg); err != nil {
		return err
	}
	var sent struct {
		Metadata json.RawMessage `json:"metadata"` // including fields that Hutong doesn't know
	}
	if err := bfia.DecodeJSON(body, &sent); err != nil {
		return err
	}
	created, err := s.store.PutProvider(c.UserContext(),
		store.Provider{Name: reg.Name, Version: reg.Version, Device: string(reg.Device),
			Protocol: reg.Protocol, Metadata: sent.Metadata, Components: reg.Description})
	if err != nil {
		return err
	}
	message := "update success"
	if created {
		message = "create success"
	}
	return c.JSON(map[string]any{"code": bfia.CodeOK, "message": message})
}

// registerComponent creates or updates one component of a provider, in the specification's form (part 2,
// 5.8).
func (s *Server) registerComponent(c *fiber.Ctx) error {
	body, err := s.readBody(c, s.MaxDocumentBytes)
	if err != nil {
		return err
	}
	reg, err := bfia.ParseComponent(body)
	if err != nil {
		return err
	}
	on(c.UserContext(), audit.Provider, providerID(reg.Name, reg.Version, string(reg.Device)))
	if err := s.checkImages("imageUrl", reg); err != nil {
		return err
	}
	metadata, err := json.Marshal(reg.Metadata)
	if err != nil {
		return err
	}
	if _, err := s.store.PutComponents(c.UserContext(),
		store.Provider{Name: reg.Name, Version: reg.Version, Device: string(reg.Device),
			Protocol: reg.Protocol, Metadata: metadata, Components: reg.Description}); err != nil {
		return err
	}
	return ok(c, nil)
}

// checkImages refuses a registration with an image that this party does not allow: that of the provider,
// whose field in the request is given, or that of a component that has its own.
func (s *Server) checkImages(field string, reg *bfia.Registration) error {
	if s.AllowImage == nil || reg.Device == bfia.DeviceProcess {
		return nil
	}
	if image := reg.Metadata.Image; image != "" {
		if err := s.AllowImage(reg.Device, image); err != nil {
			return bfia.Wrap(bfia.CodeForbidden, err, "%s: %v", field, err)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(reg.Description)) {
		description, err := bfia.ParseDescription(name, reg.Description[name])
		if err != nil {
			return err
		}
		if description.ImageURL == "" {
			continue
		}
		if err := s.AllowImage(reg.Device, description.ImageURL); err != nil {
			return bfia.Wrap(bfia.CodeForbidden, err, "components_description.%s.imageUrl: %v", name, err)
		}
	}
	return nil
}

// providerID returns the name of a provider, or of several where a part is not given.
func providerID(name, version, device string) string {
	return cmp.Or(name, "*") + ":" + cmp.Or(version, "*") + "@" + cmp.Or(device, "*")
}

// providerFilter reads name, version and device, or provider_name, which is name:version@device.
func providerFilter(get func(string) string) (store.ProviderFilter, error) {
	f := store.ProviderFilter{Name: get("name"), Version: get("version"), Device: get("device")}
	if full := get("provider_name"); full != "" {
		ref, err := bfia.ParseProviderName(full)
		if err != nil {
			return f, err
		}
		f = store.ProviderFilter{Name: ref.Name, Version: ref.Version, Device: string(ref.Device)}
	}
	return f, nil
}

// queryProviders lists the providers that match the filter, with jobs=true also the jobs that use them.
func (s *Server) queryProviders(c *fiber.Ctx) error {
	get, err := s.params(c)
	if err != nil {
		return err
	}
	filter, err := providerFilter(get)
	if err != nil {
		return err
	}
	found, err := s.store.Providers(c.UserContext(), filter)
	if err != nil {
		return err
	}
	list := []map[string]any{}
	for _, p := range found {
		entry := map[string]any{
			"provider_name":          p.Name + ":" + p.Version + "@" + p.Device,
			"name":                   p.Name,
			"version":                p.Version,
			"device":                 p.Device,
			"protocol":               p.Protocol,
			"metadata":               p.Metadata,
			"allowed":                p.Allowed,
			"components_description": p.Components,
			"create_time":            p.CreatedAt.UnixMilli(),
			"update_time":            p.UpdatedAt.UnixMilli(),
		}
		if p.Device == string(bfia.DeviceDocker) {
			if entry["images"], err = imagesOf(p); err != nil {
				return err
			}
		}
		if get("jobs") == "true" {
			if entry["jobs"], err = s.store.JobsWithProvider(c.UserContext(),
				store.ProviderFilter{Name: p.Name, Version: p.Version}); err != nil {
				return err
			}
		}
		list = append(list, entry)
	}
	return answer(c, "success", list, nil)
}

// imagesOf returns the images of a provider for Docker, with the ids to which its runners resolved them.
func imagesOf(p store.Provider) ([]bfia.ProviderImage, error) {
	images := []bfia.ProviderImage{}
	for _, component := range slices.Sorted(maps.Keys(p.Components)) {
		image, err := activities.ImageOf(p, component)
		if err != nil {
			return nil, err
		}
		if image.Reference == "" || slices.ContainsFunc(images,
			func(i bfia.ProviderImage) bool { return i.Reference == image.Reference }) {
			continue
		}
		ids := image.IDs
		if ids == nil {
			ids = map[string]string{}
		}
		images = append(images, bfia.ProviderImage{Reference: image.Reference, IDs: ids})
	}
	return images, nil
}

// deleteProvider deletes the providers that match the filter. It refuses those that unfinished jobs use,
// unless force is set. Jobs keep what was registered when they were created.
func (s *Server) deleteProvider(c *fiber.Ctx) error {
	var fields map[string]json.RawMessage
	if err := s.readJSON(c, &fields); err != nil {
		return err
	}
	filter, err := providerFilter(func(name string) string { return text(fields[name]) })
	if err != nil {
		return err
	}
	if filter == (store.ProviderFilter{}) {
		return bfia.Errorf(bfia.CodeBadRequest, "name or provider_name: is required")
	}
	on(c.UserContext(), audit.Provider, providerID(filter.Name, filter.Version, filter.Device))
	var force bool
	if err := bfia.DecodeFields(fields, bfia.Optional("force", &force)); err != nil {
		return err
	}
	n, err := s.store.DeleteProvider(c.UserContext(), filter, force)
	if err != nil {
		return err
	}
	if n == 0 {
		return bfia.Errorf(bfia.CodeNotFound,
			"no provider matches the filter")
	}
	return answer(c, "success", map[string]any{"count": n}, nil)
}
