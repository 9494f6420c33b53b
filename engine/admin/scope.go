package admin

import (
	"context"
	"fmt"
	"time"

	"google.golang.org/grpc/peer"

	"github.com/pannier/pannier/engine/access"
	"github.com/pannier/pannier/spec/adminpb"
	"github.com/pannier/pannier/spec/fault"
)

// scopes is what each method asks of its caller. One that is not here keeps the service
// from being made.
var scopes = map[string]access.Scope{
	adminpb.Admin_Submit_FullMethodName: access.Submit, // and the rule has to be one of the caller's

	adminpb.Admin_Get_FullMethodName:           access.Read,
	adminpb.Admin_List_FullMethodName:          access.Read,
	adminpb.Admin_Events_FullMethodName:        access.Read,
	adminpb.Admin_Watch_FullMethodName:         access.Read,
	adminpb.Admin_Wait_FullMethodName:          access.Read,
	adminpb.Admin_Explain_FullMethodName:       access.Read,
	adminpb.Admin_Timeline_FullMethodName:      access.Read, // asks the partner, of whom the engine takes care
	adminpb.Admin_ListPartners_FullMethodName:  access.Read,
	adminpb.Admin_ListRules_FullMethodName:     access.Read,
	adminpb.Admin_TestRule_FullMethodName:      access.Read,
	adminpb.Admin_ListRelays_FullMethodName:    access.Read,
	adminpb.Admin_ListObjects_FullMethodName:   access.Read,
	adminpb.Admin_GetObject_FullMethodName:     access.Read,
	adminpb.Admin_NodeInfo_FullMethodName:      access.Read,
	adminpb.Admin_ListFolders_FullMethodName:   access.Read,
	adminpb.Admin_ListListeners_FullMethodName: access.Read,
	adminpb.Admin_ShowFolder_FullMethodName:    access.Read,
	adminpb.Admin_TestFolder_FullMethodName:    access.Read,
	adminpb.Admin_ListSchedules_FullMethodName: access.Read,
	adminpb.Admin_ShowSchedule_FullMethodName:  access.Read,
	adminpb.Admin_ListPools_FullMethodName:     access.Read,
	adminpb.Admin_ListExpected_FullMethodName:  access.Read,

	adminpb.Admin_Log_FullMethodName:         access.Operate, // it has what tasks have printed
	adminpb.Admin_Pause_FullMethodName:       access.Operate,
	adminpb.Admin_Resume_FullMethodName:      access.Operate,
	adminpb.Admin_Cancel_FullMethodName:      access.Operate,
	adminpb.Admin_Retry_FullMethodName:       access.Operate,
	adminpb.Admin_TestPartner_FullMethodName: access.Operate, // connects, as do the next three
	adminpb.Admin_Browse_FullMethodName:      access.Operate,
	adminpb.Admin_TestRelay_FullMethodName:   access.Operate,
	adminpb.Admin_Check_FullMethodName:       access.Operate,
	adminpb.Admin_ScanFolder_FullMethodName:  access.Operate,
	adminpb.Admin_RunSchedule_FullMethodName: access.Operate,

	adminpb.Admin_AddExpected_FullMethodName:         access.Operate,
	adminpb.Admin_RemoveExpected_FullMethodName:      access.Operate,
	adminpb.Admin_AcknowledgeExpected_FullMethodName: access.Operate,

	adminpb.Admin_AddRelay_FullMethodName:     access.Administer,
	adminpb.Admin_RemoveRelay_FullMethodName:  access.Administer,
	adminpb.Admin_Backup_FullMethodName:       access.Administer,
	adminpb.Admin_Purge_FullMethodName:        access.Administer,
	adminpb.Admin_Reload_FullMethodName:       access.Administer,
	adminpb.Admin_Apply_FullMethodName:        access.Administer,
	adminpb.Admin_PutObject_FullMethodName:    access.Administer,
	adminpb.Admin_DeleteObject_FullMethodName: access.Administer,
	adminpb.Admin_CreateToken_FullMethodName:  access.Administer,
	adminpb.Admin_ListTokens_FullMethodName:   access.Administer,
	adminpb.Admin_DeleteToken_FullMethodName:  access.Administer,
}

// ScopeOf is what a method, by its full name, asks of its caller; 0: there is none.
func ScopeOf(method string) access.Scope { return scopes[method] }

// scoped is an error if a method asks nothing of its caller.
func scoped() error {
	d := adminpb.Admin_ServiceDesc
	var all []string
	for _, m := range d.Methods {
		all = append(all, m.MethodName)
	}
	for _, m := range d.Streams {
		all = append(all, m.StreamName)
	}
	for _, name := range all {
		if s := scopes["/"+d.ServiceName+"/"+name]; !s.Valid() || s == access.Public {
			return fault.New("make admin service", fault.Internal, "%s has no scope", name)
		}
	}
	return nil
}

// mayCall is a context with the caller, if it may call the method: whom the HTTP server
// has recognized, else the user of the socket. Permission and Unauthenticated: it may not.
func (s *Server) mayCall(ctx context.Context, method string) (context.Context, error) {
	caller := access.CallerOf(ctx)
	if caller.Name == "" {
		p, _ := peer.FromContext(ctx)
		if p == nil {
			return ctx, fault.New("admin service", fault.Permission, "nobody knows who calls")
		}
		u, ok := p.AuthInfo.(user)
		if ok && !u.allowed {
			return ctx, s.refuses(fmt.Sprintf("user %d", u.uid), method, fault.New("admin service", fault.Permission, "user %d may not run this node", u.uid))
		}
		if ok {
			caller = access.Local(u.uid)
		}
	}
	if err := caller.Check(scopes[method]); err != nil {
		return ctx, s.refuses(caller.Name, method, err)
	}
	if scopes[method] != access.Read && method != adminpb.Admin_Log_FullMethodName { // which a page asks for each second
		s.cfg.Log.Info("admin call", "caller", caller.Name, "method", method)
	}
	return access.With(ctx, caller), nil
}

// mostRefusals is how many refused calls a second are logged, and how many refused orders of one
// caller are recorded.
const mostRefusals = 10

// refuses tells who keeps account of it that a caller was refused, and is why.
func (s *Server) refuses(who, method string, err error) error {
	if more, ok := s.logged.Tell(time.Now()); ok {
		s.cfg.Log.Warn("admin call refused", "caller", who, "method", method, "unlogged", more)
	}
	if s.cfg.Refused != nil {
		s.cfg.Refused(who, err)
	}
	return err
}
