// What arrives by events, read by `await`.

/** A queue with one reader. */
export class Queue<Item> {
  private items: Item[] = [];
  private error: Error | null = null;
  private wake: () => void = () => {};

  push(item: Item): void {
    this.items.push(item);
    this.wake();
  }

  /** Forgets what nobody has read yet. */
  clear(): void {
    this.items = [];
  }

  /** Nothing more comes: the reader gets this error. */
  fail(error: Error): void {
    this.error = error;
    this.wake();
  }

  async next(): Promise<Item> {
    for (;;) {
      const item = this.items.shift();
      if (item !== undefined) return item;
      if (this.error !== null) throw this.error;
      await new Promise<void>((resolve) => (this.wake = resolve));
    }
  }
}
