// A network that can fail, for the self-test: a WebSocket of the platform cannot be broken off
// without a good-bye, so its bytes go through here.

import { type AddressInfo, type Server, type Socket, connect, createServer } from 'node:net';

export class LossyNetwork {
  private readonly sockets = new Set<Socket>();

  private constructor(private readonly server: Server) {}

  /** A network on whose other side is the server of `url`. */
  static async to(url: string): Promise<LossyNetwork> {
    const { hostname, port } = new URL(url);
    const server = createServer((near) => {
      const far = connect(Number(port), hostname);
      for (const [one, other] of [[near, far], [far, near]] as const) {
        network.sockets.add(one);
        one.setNoDelay(true);
        one.on('data', (bytes) => other.write(bytes));
        one.on('end', () => other.end());
        one.on('error', () => other.destroy());
        one.on('close', () => network.sockets.delete(one));
      }
    });
    const network = new LossyNetwork(server);
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    return network;
  }

  get url(): string {
    return `ws://127.0.0.1:${(this.server.address() as AddressInfo).port}`;
  }

  /** Breaks every connection, without a good-bye to either side. */
  drop(): void {
    this.sockets.forEach((socket) => socket.resetAndDestroy());
  }

  /** Takes no further connections. */
  close(): void {
    this.server.close();
  }
}
