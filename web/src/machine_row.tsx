// One machine: a row of facts, and the menu of what can be done with it.

import { api, type Device } from "./api";
import { Menu } from "./menu";
import { CopyButton, Failure, When } from "./parts";
import { useChange } from "./queries";
import { badges, homeRelay, isSet, keyExpiry, lastSeen, shortName } from "./text";

export type Asked = { kind: "rename" | "tags" | "expire" | "remove"; device: Device };

interface MachineRowProps {
  device: Device;
  now: Date;
  ask: (asked: Asked) => void;
}

export function MachineRow({ device, now, ask }: MachineRowProps) {
  const name = shortName(device);
  return (
    <tr>
      <th scope="row">
        <strong title={device.name}>{name}</strong>
        <div className="muted">{device.tags?.length ? device.tags.join(", ") : device.user}</div>
        {badges(device, now).map((badge) => (
          <span key={badge} className={badge === "Expired" || badge === "Needs approval" ? "badge bad" : "badge"}>
            {badge}
          </span>
        ))}
      </th>
      <td data-label="Addresses">
        {device.addresses.map((address) => (
          <div key={address} className="address">
            <code>{address}</code> <CopyButton quiet text={address} label={`Copy ${address}`} />
          </div>
        ))}
      </td>
      <td data-label="Version">
        <span className="version">{device.clientVersion || "unknown"}</span>
        <div className="muted">{device.os}</div>
      </td>
      <td data-label="Last seen">
        <span className={device.connectedToControl ? "dot online" : "dot"} />
        {isSet(device.lastSeen) ? (
          <When time={device.lastSeen} now={now} words={lastSeen(device, now)} />
        ) : (
          lastSeen(device, now)
        )}
      </td>
      <td data-label="Key expiry">
        {isSet(device.expires) && !device.keyExpiryDisabled ? (
          <When time={device.expires} now={now} words={keyExpiry(device, now)} />
        ) : (
          keyExpiry(device, now)
        )}
      </td>
      <td data-label="Path">
        <Path device={device} />
      </td>
      <td className="actions">
        <Actions device={device} name={name} ask={ask} />
      </td>
    </tr>
  );
}

// How peers reach the machine: its home relay, and the endpoints that it offers for direct traffic.
function Path({ device }: { device: Device }) {
  const endpoints = device.clientConnectivity?.endpoints ?? [];
  const relay = homeRelay(device);
  if (!relay && endpoints.length === 0) return <span className="muted">unknown</span>;
  return (
    <>
      {relay && <div>{relay}</div>}
      {endpoints.length > 0 && (
        <details>
          <summary>
            {endpoints.length} direct endpoint{endpoints.length === 1 ? "" : "s"}
          </summary>
          {endpoints.map((endpoint) => (
            <div key={endpoint}>
              <code>{endpoint}</code>
            </div>
          ))}
        </details>
      )}
    </>
  );
}

function Actions({ device, name, ask }: { device: Device; name: string; ask: (asked: Asked) => void }) {
  const change = useChange();
  const isDisabled = device.keyExpiryDisabled;
  const toggleExpiry = () => change.mutate(() => api.setKeyExpiry(device.nodeId, !isDisabled));
  return (
    <>
      {!device.authorized && (
        <button
          className="primary"
          aria-label={`Approve ${name}`}
          disabled={change.isPending}
          onClick={() => change.mutate(() => api.authorize(device.nodeId))}
        >
          Approve
        </button>
      )}
      <Menu
        label={`Actions for ${name}`}
        entries={[
          { label: "Edit machine name…", choose: () => ask({ kind: "rename", device }) },
          { label: "Edit tags…", choose: () => ask({ kind: "tags", device }) },
          { label: isDisabled ? "Enable key expiry" : "Disable key expiry", choose: toggleExpiry },
          { label: "Expire key…", choose: () => ask({ kind: "expire", device }) },
          { label: "Remove…", choose: () => ask({ kind: "remove", device }), isDangerous: true },
        ]}
      />
      {change.error && <Failure error={change.error} />}
    </>
  );
}
